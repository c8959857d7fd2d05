"""What the driver reports as it happens: XID errors and clock changes, heard on a thread of its own.

Started and stopped by backend.py with the driver; board.py asks it for the XIDs. Only the thread touches the driver's
event set (hearing.py).
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import pynvml

from telemetry.agent.backends.nvml.hearing import DeafTo, Hearing
from telemetry.agent.backends.nvml.ranges import believable
from telemetry.catalog import AbsentReason
from telemetry.message.wire import DeviceEvent, EventKind

_log = logging.getLogger(__name__)

_KINDS = {
    pynvml.nvmlEventTypeXidCriticalError: EventKind.XID,
    pynvml.nvmlEventTypeClock: EventKind.CLOCK,
}

_LONGEST_PAUSE_SECONDS = 60.0
_STOP_GRACE_SECONDS = 3.0  # over one wait: what the driver may take to come back from it
_BURST = 100  # events in a row; then a rest, so that a flood takes at most a few percent of one core
_REST_SECONDS = 0.05
_MAX_KINDS_KEPT = 1000  # different events between two batches; the wire takes 10,000 of all devices and backends
_MAX_COUNT = 2**31 - 1

_Key = tuple[str, EventKind, int]


class EventListener:
    """Hears the devices' events from `start` to `stop`; what it counted stays across both.

    `wait_seconds` is how long the thread sleeps in the driver at most, and so how long `stop` may take.
    """

    def __init__(
        self, *, wait_seconds: float = 8.0, retry_seconds: float = 60.0, clock: Callable[[], float] = time.time
    ) -> None:
        self._wait_seconds = wait_seconds
        self._retry_seconds = retry_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[_Key, tuple[int, int]] = {}  # first at_ms, count
        self._n_not_kept = 0
        self._xids: dict[str, tuple[int, int]] = {}
        self._handles: Mapping[str, Any] = {}
        self._deaf_to: DeafTo = {}
        self._threads: list[threading.Thread] = []  # more than one only where the driver holds an earlier one
        self._stopping = threading.Event()

    def start(self, handles: Mapping[str, Any]) -> None:
        """Begin to hear these devices, by UUID; of a board with MIG the whole, since instances have no events.

        May be called again with other devices: the thread takes them in at its next wake, and misses nothing meanwhile.
        Returns at once: a device whose registration hangs must not hold up the caller.
        """
        self._handles = dict(handles)
        if any(thread.is_alive() for thread in self._threads) and not self._stopping.is_set():
            for uuid in handles:
                self._deaf_to.setdefault(uuid, AbsentReason.UNKNOWN)
            return
        self._deaf_to = dict.fromkeys(handles, AbsentReason.UNKNOWN)
        self._stopping = threading.Event()
        arguments = (self._deaf_to, self._stopping)
        thread = threading.Thread(target=self._listen, args=arguments, name="nvml-events", daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop(self) -> bool:
        """Return whether the thread has left the driver; where not, the driver must not be shut down."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(self._wait_seconds + _STOP_GRACE_SECONDS)
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        if self._threads:
            _log.error("the NVIDIA driver does not come back from its wait for events: it cannot be let go of")
        return not self._threads

    @property
    def has_news(self) -> bool:
        """Whether anything was heard since the last `take`. What comes in this moment is the next one's."""
        return bool(self._kept or self._n_not_kept)

    def take(self) -> list[DeviceEvent]:
        """Return what was heard since the last call, equal events as one, in the order of their first."""
        if not self.has_news:
            return []
        with self._lock:
            kept, self._kept = self._kept, {}
            n_not_kept, self._n_not_kept = self._n_not_kept, 0
        if n_not_kept:
            _log.warning("%d driver events were left out: more than %d different ones", n_not_kept, _MAX_KINDS_KEPT)
        return [DeviceEvent(*key, at_ms, min(count, _MAX_COUNT)) for key, (at_ms, count) in kept.items()]

    def xid_state(self, uuid: str) -> tuple[int, int] | AbsentReason:
        """Return the last XID (0: none yet) and how many there were, or why the device's are not heard."""
        deaf = self._deaf_to.get(uuid, AbsentReason.UNKNOWN)
        return self._xids.get(uuid, (0, 0)) if deaf is None else deaf

    def counted_xids(self, uuid: str) -> tuple[int, int] | None:
        """Return the last XID and how many were counted, None where there was none; known without the driver as well."""
        return self._xids.get(uuid)

    def _listen(self, deaf_to: DeafTo, stopping: threading.Event) -> None:
        pause, last_code = self._wait_seconds, None
        while not stopping.is_set():
            # Handles that failed are not used again: stale ones have crashed in the driver.
            hearing = Hearing(lambda: self._handles, deaf_to, self._retry_seconds, by_uuid=last_code is not None)
            try:
                self._hear(hearing, stopping)
            except pynvml.NVMLError as error:
                level = logging.DEBUG if error.value == last_code else logging.WARNING
                _log.log(level, "events of the NVIDIA driver are not heard, next try in %g s: %s", pause, error)
                # A set that was heard for a while before it failed begins anew with the shortest pause.
                pause = self._wait_seconds if hearing.was_heard else min(2 * pause, _LONGEST_PAUSE_SECONDS)
                last_code = error.value
            finally:
                hearing.end()
            stopping.wait(pause)

    def _hear(self, hearing: Hearing, stopping: threading.Event) -> None:
        """Note events until told to stop. Raises NVMLError where the driver refuses the wait."""
        hearing.begin()
        in_a_row = 0
        while not stopping.is_set():
            started = time.monotonic()
            data = hearing.wait(round(self._wait_seconds * 1000))
            if data is not None:
                self._note(hearing, data)
                in_a_row += 1
                if in_a_row % _BURST == 0:
                    stopping.wait(_REST_SECONDS)
                continue
            in_a_row = 0
            if time.monotonic() - started < self._wait_seconds / 2:
                stopping.wait(self._wait_seconds / 2)  # a wait that an interrupt ends early must not become a spin

    def _note(self, hearing: Hearing, data: Any) -> None:
        at_ms = round(self._clock() * 1000)
        kind = _KINDS.get(data.eventType)
        uuid = hearing.uuid_of(data.device)
        if kind is None or uuid is None or (kind is EventKind.XID and data.eventData > believable("xid_last")[1]):
            what = kind or f"type {data.eventType:#x}"
            _log.warning("an event is left out: %s %d of device %s", what, data.eventData, uuid or "unknown")
            return
        code = data.eventData if kind is EventKind.XID else hearing.clock_reasons(uuid, data.device)
        if code is not None:
            self._count((uuid, kind, code), at_ms)

    def _count(self, key: _Key, at_ms: int) -> None:
        uuid, kind, code = key
        with self._lock:
            if kind is EventKind.XID:
                self._xids[uuid] = (code, self._xids.get(uuid, (0, 0))[1] + 1)
            if key in self._kept:
                first_ms, count = self._kept[key]
                self._kept[key] = (first_ms, count + 1)
            elif len(self._kept) < _MAX_KINDS_KEPT:
                self._kept[key] = (at_ms, 1)
            else:
                self._n_not_kept += 1
