"""AMD devices through ROCm's `amdsmi`: finding them, reading them, and letting the driver go.

Called by the sampler. The bindings come with ROCm and are imported when the backend opens, since without a driver their
import fails and prints. No Django, no torch.
"""

import contextlib
import io
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from telemetry.agent.backends.amd_calls import (
    CALLS,
    METRICS,
    REASONS,
    SHAPE_ERRORS,
    Ask,
    Smi,
    Take,
    believed,
)
from telemetry.agent.backends.identity import stable_uuid
from telemetry.agent.backends.kernel import this_machine
from telemetry.agent.backends.ownership import describe
from telemetry.agent.backends.protocol import BackendUnavailable, Reading
from telemetry.catalog import AbsentReason
from telemetry.message.wire import DeviceEvent, DeviceInfo, DeviceKind, DeviceProcess, Topology

logger = logging.getLogger(__name__)

_DRIVER_GONE = {32, 34}  # not initialised, driver not loaded: the whole backend is opened again


class _DriverGoneError(Exception):
    """The driver was unloaded under the backend."""


@dataclass(slots=True)
class _Device:
    device: DeviceInfo
    handle: Any
    smi: Smi
    compute_units: int
    offered: list[tuple[Ask, Mapping[str, Take]]] | None = None
    is_stale: bool = False

    def read(self) -> Mapping[str, Reading]:
        readings: dict[str, Reading] = dict.fromkeys(METRICS, AbsentReason.NOT_SUPPORTED)
        is_first = self.offered is None
        kept = []
        for ask, takes in CALLS if self.offered is None else self.offered:
            found, is_refused = self._ask(ask, takes)
            if AbsentReason.GPU_IS_LOST in found.values():
                return dict.fromkeys(METRICS, AbsentReason.GPU_IS_LOST)  # nothing that it still says counts
            readings.update(found)
            if not is_refused:
                kept.append((ask, takes))
        if is_first:
            self.offered = kept  # what the device refuses is not asked again each tick
        return readings

    def processes(self) -> list[DeviceProcess] | None:
        try:
            rows = self.smi.amdsmi_get_gpu_process_list(self.handle)
            return [self._process(row) for row in rows]
        except (self.smi.AmdSmiException, *SHAPE_ERRORS):
            return None

    def _process(self, row: Mapping[str, Any]) -> DeviceProcess:
        pid, units = int(row["pid"]), row.get("cu_occupancy")
        owner = describe(pid)
        memory = row.get("memory_usage", {}).get("vram_mem")
        share = units / self.compute_units if isinstance(units, int) and self.compute_units else None
        return DeviceProcess(
            pid=pid,
            command=owner.command or str(row.get("name", "")),
            user=owner.user,
            memory_bytes=memory if isinstance(memory, int) and memory < 2**50 else None,
            sm_ratio=share if share is not None and share <= 1 else None,
            container=owner.container,
            slurm_job=owner.slurm_job,
        )

    def _ask(self, ask: Ask, takes: Mapping[str, Take]) -> tuple[dict[str, Reading], bool]:
        """Return the readings, and whether the driver refuses the call for good; an answer of "N/A" may become a number."""
        try:
            answer = ask(self.smi, self.handle)
        except self.smi.AmdSmiLibraryException as error:
            self.is_stale = self.is_stale or error.err_code in _DRIVER_GONE
            reason = REASONS.get(error.err_code, AbsentReason.UNKNOWN)
            return dict.fromkeys(takes, reason), reason is AbsentReason.NOT_SUPPORTED
        except (self.smi.AmdSmiException, *SHAPE_ERRORS):
            return dict.fromkeys(takes, AbsentReason.UNKNOWN), False
        return {metric: self._take(metric, take, answer) for metric, take in takes.items()}, False

    @staticmethod
    def _take(metric: str, take: Take, answer: Any) -> Reading:
        try:
            return believed(metric, take(answer))
        except SHAPE_ERRORS:
            return AbsentReason.UNKNOWN


def _import() -> Smi:
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            return import_module("amdsmi")
    except ImportError as error:
        raise BackendUnavailable("no amdsmi: ROCm's Python bindings are not installed for this interpreter") from error
    except (KeyError, OSError, AttributeError) as error:  # what it raises without a driver
        raise BackendUnavailable(f"amdsmi cannot be loaded ({type(error).__name__}: {error}): no ROCm here") from error


class AmdBackend:
    """Every AMD GPU that the driver lists. `directory` keeps the machine's id where the system has none."""

    name = "amd"
    releasable = True

    def __init__(self, directory: Path, load: Callable[[], Smi] = _import) -> None:
        self._directory, self._load = directory, load
        self._smi: Smi = None
        self._devices: list[_Device] = []
        self._software: dict[str, str] = {}

    def open(self) -> None:
        smi = self._load()
        try:
            smi.amdsmi_init()
        except (smi.AmdSmiException, *SHAPE_ERRORS) as error:
            raise BackendUnavailable(f"the AMD driver does not start: {_words(error)}") from error
        self._smi = smi
        try:
            self._devices = [
                self._found(index, handle) for index, handle in enumerate(smi.amdsmi_get_processor_handles())
            ]
        except (smi.AmdSmiException, *SHAPE_ERRORS) as error:
            self.close()
            raise BackendUnavailable(f"the AMD driver does not list its devices: {_words(error)}") from error
        except BackendUnavailable:  # a device needs the machine's id for its name, and there is none
            self.close()
            raise
        if not self._devices:
            self.close()
            raise BackendUnavailable("the AMD driver has no device that the agent may see")

    def sources(self) -> list[_Device]:
        if any(device.is_stale for device in self._devices):
            raise _DriverGoneError("the AMD driver was unloaded; it is opened again")
        return list(self._devices)

    def software(self) -> dict[str, str]:
        return dict(self._software)

    def topology(self) -> Topology | None:
        return None

    def take_events(self) -> list[DeviceEvent]:
        return []

    def close(self) -> None:
        if self._smi is None:
            return
        smi, self._smi, self._devices = self._smi, None, []
        try:
            smi.amdsmi_shut_down()
        except smi.AmdSmiException as error:
            logger.warning("the AMD driver does not shut down cleanly: %s", _words(error))

    def _found(self, index: int, handle: Any) -> _Device:
        smi = self._smi
        asic, driver = smi.amdsmi_get_gpu_asic_info(handle), smi.amdsmi_get_gpu_driver_info(handle)
        bus = smi.amdsmi_get_gpu_device_bdf(handle)
        uuid = smi.amdsmi_get_gpu_device_uuid(handle)
        if not uuid or uuid == "N/A" or not uuid.strip("0-"):
            uuid = stable_uuid(this_machine(self._directory), DeviceKind.AMD, bus)
        version = "" if driver["driver_version"] == "N/A" else str(driver["driver_version"])
        model = "" if asic["market_name"] == "N/A" else str(asic["market_name"])
        self._software = {"amdgpu": version} if version else {}
        units = asic.get("num_compute_units")
        info = DeviceInfo(uuid, DeviceKind.AMD, index, model, str(bus), version)
        return _Device(info, handle, smi, units if isinstance(units, int) else 0)


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
