"""Which boards and MIG instances the driver lists, and how each is found again: by its UUID, never by its index.

Called by backend.py at `open` and every so often. Logs what cannot be identified once, not at every listing.
"""

import ctypes
import logging
import math
from dataclasses import dataclass
from typing import Any

import pynvml

from telemetry.agent.backends.nvml.errors import DeviceGoneError, is_refused, reason_of
from telemetry.catalog import AbsentReason
from telemetry.message.wire import DeviceInfo, DeviceKind

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Listed:
    """A board or an instance as the driver lists it now. `instance_id` is the GPU instance's under its board.

    `is_mig` is whether a board is divided, None where it does not say.
    """

    info: DeviceInfo
    handle: Any
    is_mig: bool | None = None
    instance_id: int | None = None


def address_of(handle: Any) -> int | None:
    """Return what tells one handle from another."""
    # Not by a cast, which has the handle refer to itself, so that only the garbage collector would free it.
    return ctypes.addressof(handle.contents) if handle else None


def find(uuid: str) -> Any:
    """Return the handle of a device. Raises DeviceGoneError and DriverAwayError."""
    try:
        return pynvml.nvmlDeviceGetHandleByUUID(uuid)
    except pynvml.NVMLError as error:
        if error.value == pynvml.NVML_ERROR_NOT_FOUND:
            # A device that the driver knew and no longer lists fell off the bus as well.
            raise DeviceGoneError(AbsentReason.GPU_IS_LOST) from error
        raise DeviceGoneError(reason_of(error.value)) from error


class Listing:
    """Lists boards and instances."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def boards(self) -> list[Listed]:
        """Return the boards that tell their identity. Raises NVMLError where the driver lists nothing."""
        driver = pynvml.nvmlSystemGetDriverVersion()
        found = []
        for index in range(pynvml.nvmlDeviceGetCount()):
            try:
                found.append(_board(index, driver))
            except pynvml.NVMLError as error:
                # Without its UUID it cannot be told from another device: never shown under a guessed name.
                self._tell_once(f"NVIDIA device {index} does not tell its identity: {error}")
        return found

    def instances(self, board: Listed) -> list[Listed]:
        """Return the MIG instances of a board. Raises NVMLError where the board does not answer."""
        found = []
        for index in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(board.handle)):
            try:
                handle = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(board.handle, index)
            except pynvml.NVMLError as error:
                if error.value != pynvml.NVML_ERROR_NOT_FOUND:
                    raise
                continue  # places of instances need not be taken without a gap
            try:
                found.append(_instance(board, handle))
            except pynvml.NVMLError as error:
                self._tell_once(f"MIG instance {index} of {board.info.uuid} does not tell its identity: {error}")
        return found

    def _tell_once(self, sentence: str) -> None:
        if sentence not in self._told:
            self._told.add(sentence)
            _log.warning(sentence)


def _board(index: int, driver: str) -> Listed:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    info = DeviceInfo(
        uuid=pynvml.nvmlDeviceGetUUID(handle),
        kind=DeviceKind.NVIDIA,
        index=index,
        model=pynvml.nvmlDeviceGetName(handle),
        pci_bus_id=pynvml.nvmlDeviceGetPciInfo(handle).busId,
        driver_version=driver,
    )
    return Listed(info, handle, is_mig=_is_mig(handle))


def _is_mig(handle: Any) -> bool | None:
    try:
        current, _ = pynvml.nvmlDeviceGetMigMode(handle)
    except pynvml.NVMLError as error:
        return False if is_refused(error.value) else None
    return bool(current == pynvml.NVML_DEVICE_MIG_ENABLE)


def _instance(board: Listed, handle: Any) -> Listed:
    model = pynvml.nvmlDeviceGetName(handle)
    instance_id = pynvml.nvmlDeviceGetGpuInstanceId(handle)
    info = DeviceInfo(
        uuid=pynvml.nvmlDeviceGetUUID(handle),
        kind=DeviceKind.NVIDIA,
        index=instance_id,
        model=model,
        pci_bus_id=board.info.pci_bus_id,
        driver_version=board.info.driver_version,
        parent=board.info.uuid,
        profile=_told_apart(handle, _profile(handle, model)),
    )
    return Listed(info, handle, instance_id=instance_id)


def _profile(handle: Any, model: str) -> str:
    """Return an instance's size: newer drivers say it in its name, of older ones it is made from its parts."""
    _, is_named, profile = model.partition(" MIG ")
    if is_named:
        return str(profile)
    parts = pynvml.nvmlDeviceGetAttributes(handle)
    computes, slices = parts.computeInstanceSliceCount, parts.gpuInstanceSliceCount
    share = "" if computes == slices else f"{computes}c."
    return f"{share}{slices}g.{math.ceil(parts.memorySizeMB / 1024)}gb"


def _told_apart(handle: Any, profile: str) -> str:
    """Return the profile, with the compute instance's number where several share a GPU instance, and so index and size.

    Each of these has a part of its computing alone, which nvidia-smi's names begin with: 1c.3g.40gb.
    """
    share, is_shared, _ = profile.partition("c.")
    if not is_shared or not share.isdecimal():
        return profile
    return f"{profile} CI {pynvml.nvmlDeviceGetComputeInstanceId(handle)}"
