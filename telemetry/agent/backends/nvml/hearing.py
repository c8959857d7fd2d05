"""One event set of the driver: which devices' events it hears, and what they say. Used by the thread of events.py alone."""

import ctypes
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import pynvml

from telemetry.agent.backends.nvml.calls import function
from telemetry.agent.backends.nvml.errors import is_refused
from telemetry.agent.backends.nvml.identity import address_of
from telemetry.agent.backends.nvml.ranges import believable
from telemetry.catalog import AbsentReason

_log = logging.getLogger(__name__)

_WANTED = pynvml.nvmlEventTypeXidCriticalError | pynvml.nvmlEventTypeClock

DeafTo = dict[str, AbsentReason | None]
"""By UUID why a device's XIDs are not heard, None where they are."""


class Hearing:
    """An event set from its making to its freeing.

    `handles` are the devices that are to be heard, asked at each wake; `by_uuid` is to ask the driver for a fresh handle of
    each. `deaf_to` says of each device why it is not heard; it is the listener's own and kept true here.
    """

    def __init__(
        self, handles: Callable[[], Mapping[str, Any]], deaf_to: DeafTo, retry_seconds: float, *, by_uuid: bool
    ) -> None:
        self.was_heard = False
        self._handles = handles
        self._deaf_to = deaf_to
        self._retry_seconds = retry_seconds
        self._by_uuid = by_uuid
        self._set: Any = None
        self._followed: Mapping[str, Any] = {}
        self._uuids: dict[int | None, str] = {}  # by the handle's address
        self._without_reasons: set[str] = set()
        self._told: set[tuple[str, int]] = set()  # devices and codes that are in the log already

    def begin(self) -> None:
        """Make the set and register the devices. Raises NVMLError."""
        self._set = pynvml.nvmlEventSetCreate()
        self._wait = function("nvmlEventSetWait_v2")
        self._retry_at = time.monotonic() + self._retry_seconds
        self._follow()

    def end(self) -> None:
        """Free the set: of no device anything is heard from here on."""
        for uuid, reason in list(self._deaf_to.items()):
            self._deaf_to[uuid] = reason or AbsentReason.UNKNOWN
        if self._set is None:
            return
        try:
            pynvml.nvmlEventSetFree(self._set)
        except pynvml.NVMLError as error:
            _log.warning("the NVIDIA driver does not free its event set: %s", error)

    def wait(self, timeout_ms: int) -> Any | None:
        """Return the next event, None where none came in time. Raises NVMLError."""
        self._follow()
        if time.monotonic() >= self._retry_at:
            self._retry_at = time.monotonic() + self._retry_seconds
            self._retry()
        # Not by the binding, which raises an exception for each wait without an event.
        data = pynvml.c_nvmlEventData_t()
        code = self._wait(self._set, ctypes.byref(data), timeout_ms)
        if code not in (pynvml.NVML_SUCCESS, pynvml.NVML_ERROR_TIMEOUT):
            raise pynvml.NVMLError(code)
        self.was_heard = True
        return data if code == pynvml.NVML_SUCCESS else None

    def uuid_of(self, device: Any) -> str | None:
        """Return a known device's UUID; one that the driver gives for an unknown device is only written to the log."""
        known = self._uuids.get(address_of(device))
        if known is not None or not device:
            return known
        try:
            told: str = pynvml.nvmlDeviceGetUUID(device)
        except pynvml.NVMLError as error:
            _log.warning("an event's device does not tell its UUID: %s", error)
            return None
        if told in self._followed:
            return told
        _log.warning("an event came from device %s, which was not registered", told)
        return None

    def clock_reasons(self, uuid: str, device: Any) -> int | None:
        """Return the clock event reasons' bits now, None where the device does not tell them."""
        try:
            mask = _clock_reasons(device)
        except pynvml.NVMLError as error:
            why = str(error)
        else:
            low, high = believable("clock_event_reasons")
            if low <= mask <= high:
                return mask
            why = f"{mask:#x} is no such mask"
        if uuid not in self._without_reasons:
            self._without_reasons.add(uuid)
            _log.warning("clock events of %s are left out, their reasons are not known: %s", uuid, why)
        return None

    def _follow(self) -> None:
        """Register what came since the last wake, and what was given another handle."""
        handles = self._handles()
        if handles is self._followed:
            return
        self._followed = handles
        for uuid, handle in handles.items():
            if self._uuids.get(address_of(handle)) != uuid:
                self._register(uuid, None if self._by_uuid else handle)
        self._by_uuid = False  # devices that come later come with handles that the driver has just given

    def _register(self, uuid: str, handle: Any | None) -> None:
        try:
            if handle is None:
                handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            types = pynvml.nvmlDeviceGetSupportedEventTypes(handle) & _WANTED
            if types:
                pynvml.nvmlDeviceRegisterEvents(handle, types, self._set)
        except pynvml.NVMLError as error:
            refused = is_refused(error.value)
            self._deaf_to[uuid] = AbsentReason.NOT_SUPPORTED if refused else AbsentReason.UNKNOWN
            if (uuid, error.value) not in self._told:
                self._told.add((uuid, error.value))
                _log.log(logging.INFO if refused else logging.WARNING, "events of %s are not heard: %s", uuid, error)
            return
        self._uuids[address_of(handle)] = uuid
        is_heard = types & pynvml.nvmlEventTypeXidCriticalError
        self._deaf_to[uuid] = None if is_heard else AbsentReason.NOT_SUPPORTED

    def _retry(self) -> None:
        """Register those that could not be heard: they may have come back."""
        for uuid, reason in list(self._deaf_to.items()):
            if reason is AbsentReason.UNKNOWN:
                self._register(uuid, None)


def _clock_reasons(handle: Any) -> int:
    try:
        mask: int = pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle)
    except pynvml.NVMLError_FunctionNotFound:
        mask = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)  # before driver 535
    return mask
