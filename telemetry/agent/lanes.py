"""One backend as the collector sees it: open or not, which devices it has, and which of its calls hang.

Every call into the backend goes through here and is watched. Used by the collector alone; knows no threads.
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import StrEnum
from typing import Protocol, cast

from telemetry.agent.backends.deferred import Deferred
from telemetry.agent.backends.protocol import Backend, BackendUnavailable, PowerSource, Reading, Source
from telemetry.agent.backends.rounds import Joint, Rounds
from telemetry.agent.watch import WHOLE, Held, Watch
from telemetry.catalog import AbsentReason
from telemetry.message.wire import DeviceEvent, DeviceInfo, DeviceProcess, Topology

logger = logging.getLogger(__name__)

UNAVAILABLE_SECONDS = 30.0  # where there is no driver: one may be installed
# After a fault nobody expected, and where there was a driver; twice as long after the next, up to UNAVAILABLE_SECONDS.
FAULT_SECONDS = 1.0
MOST_LATE = 3  # rounds of power in a row: one may be the machine's fault
APART_SECONDS = 60.0  # before a round is tried again
MOST_HELD = 16  # each is a thread that sleeps in the driver: one that hangs in every call is left alone then
_MAPS = frozenset((dict, Deferred))
_UNREAD = ("gpu_utilization_ratio",)  # of a device that was never read, what a reason is told of


class LaneState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    UNAVAILABLE = "unavailable"


class HeardSource(Protocol):
    """A source of whose device something is known without a call, and after the driver: what that reported of it."""

    def heard(self) -> Mapping[str, Reading]: ...


class Lane:
    """`devices` are the known ones by uuid, also while the driver is away, let go of, or hangs."""

    def __init__(self, backend: Backend, clock: Callable[[], float]) -> None:
        self.backend = backend
        self.held = Held(backend.name)
        self.is_static = getattr(backend, "is_static", False)
        # Whether the backend is to be asked for its sources and events: each step that a tick does without counts.
        self.has_news: Callable[[], bool] = getattr(backend, "has_news", bool if self.is_static else _always)
        self._rounds: Rounds | None = getattr(backend, "rounds", None)
        self.state = LaneState.CLOSED
        self.is_released = False  # what is wanted; `state` follows with `settle`
        self.devices: dict[str, DeviceInfo] = {}
        self.sources: Sequence[Source] = ()
        self.power_sources: Sequence[PowerSource] = ()  # those of them that can tell their power alone
        self.software: Mapping[str, str] = {}
        self.topology: Topology | None = None
        self._clock = clock
        self.events: list[DeviceEvent] = []
        self._last: dict[str, Collection[str]] = {}  # uuid → its readings of last time, for their names
        self._given: Sequence[Source] | None = None  # as the backend gave them, where it gives them as a tuple
        self._listed: Sequence[Source] = ()  # the last sources there were, also while the driver is away
        self._listed_devices: Sequence[DeviceInfo] = ()
        self._try_at = float("-inf")
        self._n_failed = 0  # in a row
        self._was_open = False
        self._said = ""
        self._n_late = 0  # rounds of power in a row
        self._apart_until = float("-inf")  # no round before

    @property
    def is_calm(self) -> bool:
        """Whether nothing is to be thought of before its devices are read: the usual case, asked first."""
        return self.state is LaneState.OPEN and not (self.is_released or self.held)

    @property
    def is_left_alone(self) -> bool:
        """Whether no call may be made: one that concerns all devices hangs, or too many do."""
        return bool(self.held) and (WHOLE in self.held or len(self.held) >= MOST_HELD)

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to read and, for now, nothing to try: no such driver on this machine."""
        return self.state is LaneState.UNAVAILABLE and not self.devices and self._clock() < self._try_at

    @property
    def is_readable(self) -> bool:
        return self.state is LaneState.OPEN and not self.is_released and not self.is_left_alone

    def why_absent(self) -> AbsentReason:
        """Return why no device of the lane can be read."""
        if self.is_released:  # also while letting go takes its time
            return AbsentReason.RELEASED
        if self.is_left_alone:
            return AbsentReason.TIMEOUT
        return AbsentReason.UNKNOWN if self.state is LaneState.OPEN else AbsentReason.DRIVER_AWAY

    def absent(self, uuid: str, reason: AbsentReason) -> dict[str, Reading]:
        """Return every reading that the device is known to have, absent, but for what was heard of it."""
        readings: dict[str, Reading] = dict.fromkeys(self._last.get(uuid, _UNREAD), reason)
        for source in self._listed:
            if source.device.uuid == uuid and hasattr(source, "heard"):
                readings.update(cast("HeardSource", source).heard())
        return readings

    def settle(self, watch: Watch) -> None:
        """Open or close the backend, as it is wanted. Raises Relieved."""
        if self.is_left_alone:
            return
        if self.is_released:
            if self.state is LaneState.OPEN:
                self.held.is_letting_go = True
                self._guarded(watch, self._close)
        elif self.state is not LaneState.OPEN and self._clock() >= self._try_at:
            self._guarded(watch, self._open)

    def look_around(self, watch: Watch) -> None:
        """Bring the sources up to date, and add what the driver reported to `events`. Raises Relieved."""
        if not self.is_static:
            self._guarded(watch, self._look)

    def look_closer(self, watch: Watch) -> None:
        """Bring up to date what seldom changes: software and topology. Raises Relieved."""
        self._guarded(watch, self._describe)

    def read(self, watch: Watch, source: Source, now: float) -> Mapping[str, Reading]:
        """Return the device's readings; a source that raises has none that is known. Raises Relieved."""
        uuid = source.device.uuid
        try:
            readings = watch.call(self.held, uuid, source.read, now)
            # What is usual first: to ask what a map is an instance of takes as long as many a reading.
            if type(readings) not in _MAPS and not isinstance(readings, Mapping):
                raise TypeError(f"expected a map of readings, found {type(readings).__name__}")  # noqa: TRY301 — one place says it
            self._last[uuid] = readings
        except Exception as error:  # noqa: BLE001 — a backend's fault must not stop the others
            self._complain(f"device {uuid} cannot be read", error)
            readings = self.absent(uuid, AbsentReason.UNKNOWN)
        return readings

    def read_power(self, watch: Watch, source: PowerSource, now: float) -> Mapping[str, Reading]:
        """Return the readings of power alone. Raises Relieved."""
        try:
            return watch.call(self.held, source.device.uuid, source.read_power, now)
        except Exception as error:  # noqa: BLE001 — as in `read`
            self._complain(f"the power of device {source.device.uuid} cannot be read", error)
            return {}

    def read_power_together(self, watch: Watch, now: float, latest: float) -> Joint | tuple[()] | None:
        """Return power alone of all devices, () where that took longer than until `latest`.

        None where each is to be read by itself. Raises Relieved.
        """
        rounds, held = self._rounds, self.held
        if rounds is None or held or self.is_released or now < self._apart_until:
            return None
        try:
            power = rounds.power
            if power is None or power.n_changes != power.gate.n_changes:
                power = rounds.make_power()
                if power is None:
                    return None
            codes, ended = watch.go_round(held, power, now, latest)
            if ended > latest:
                return self._note_late(ended)
            self._n_late = 0
            raw = b"".join(power.rooms)
            is_usual = codes and not any(codes) and power.statuses(raw) == power.usual
        except Exception as error:  # noqa: BLE001 — as in `read`
            self._complain("power cannot be read", error)
            return None
        return (power.devices, power.conversion, raw) if is_usual else None

    def _note_late(self, now: float) -> tuple[()]:
        """Take note of a round that brought nothing: after some in a row the devices that answer in time are to be kept."""
        self._n_late += 1
        if self._n_late >= MOST_LATE:
            self._n_late, self._apart_until = 0, now + APART_SECONDS
            text = "all devices together are too slow for the power's pace: it is kept of those that answer in time"
            logger.log(self._level(text), "%s: %s", self.backend.name, text)
        return ()

    def processes(self, watch: Watch, source: Source) -> Sequence[DeviceProcess] | None:
        """Return who uses the device, None where that cannot be told. Raises Relieved."""
        try:
            return watch.call(self.held, source.device.uuid, source.processes)
        except Exception as error:  # noqa: BLE001 — as in `read`
            self._complain(f"the processes of device {source.device.uuid} cannot be read", error)
            return None

    def take_events(self) -> list[DeviceEvent]:
        """Return what the driver reported since the last call."""
        events, self.events = self.events, []
        return events

    def end(self, watch: Watch) -> None:
        """Let go of the backend for good, unless one of its calls hangs: then the process's end does."""
        if self.state is LaneState.OPEN and not self.held:
            self._guarded(watch, self._close)

    def try_again(self) -> None:
        """Open at the next `settle`, whatever failed before."""
        self._try_at = float("-inf")

    def _guarded(self, watch: Watch, step: Callable[[], None]) -> None:
        """Take a step that concerns the whole backend. Its failure is noted inside the call, so that a late one is too."""
        watch.call(self.held, WHOLE, lambda: self._guard(step))

    def _guard(self, step: Callable[[], None]) -> None:
        try:
            step()
        except BackendUnavailable as missing:
            logger.log(min(self._level(str(missing)), logging.INFO), "%s: %s", self.backend.name, missing)
            self._lose(self._pause() if self._was_open else UNAVAILABLE_SECONDS)
        except Exception as error:  # noqa: BLE001 — a backend's fault must not stop the others: it is opened again
            self._complain("failed and is opened again", error)
            self._lose(self._pause())
            self._close_broken()

    def _pause(self) -> float:
        self._n_failed += 1
        return min(FAULT_SECONDS * 2.0 ** min(self._n_failed - 1, 10), UNAVAILABLE_SECONDS)

    def _open(self) -> None:
        self.held.is_letting_go = False
        self.backend.open()
        self.state, self._was_open = LaneState.OPEN, True
        self._list()
        self._describe()
        self._n_failed = 0
        self._said = ""

    def _look(self) -> None:
        self._list()
        events = self.backend.take_events()
        if events:
            self.events += events

    def _list(self) -> None:
        given = self.backend.sources()
        if given is self._given:
            return
        self._given = given if isinstance(given, tuple) else None
        found = list(given)
        devices = [source.device for source in found]
        if found == self.sources and devices == self._listed_devices:
            return
        self.sources = self._listed = found
        self._listed_devices = devices
        self.power_sources = [cast("PowerSource", source) for source in found if hasattr(source, "read_power")]
        self.devices = {device.uuid: device for device in devices}
        if len(self._last) > len(self.devices):  # a MIG instance is gone
            self._last = {uuid: names for uuid, names in self._last.items() if uuid in self.devices}

    def _describe(self) -> None:
        self.software, self.topology = dict(self.backend.software()), self.backend.topology()

    def _close(self) -> None:
        self.sources, self._given = (), None
        self.backend.close()
        self.state = LaneState.CLOSED
        logger.info("%s: let go of", self.backend.name)

    def _close_broken(self) -> None:
        try:
            self.backend.close()
        except Exception as error:  # noqa: BLE001 — what is broken may not even close
            self._complain("cannot be closed", error)

    def _lose(self, pause_seconds: float) -> None:
        self.sources, self._given, self.state = (), None, LaneState.UNAVAILABLE
        self._try_at = self._clock() + pause_seconds

    def _complain(self, what: str, error: Exception) -> None:
        """Log a backend's fault, with its trace where it is not the one of the time before."""
        level = self._level(f"{what}: {error!r}")
        logger.log(level, "%s: %s (%r)", self.backend.name, what, error, exc_info=level > logging.DEBUG)

    def _level(self, text: str) -> int:
        """Return the level for a text: what repeats each second is written once."""
        is_news, self._said = text != self._said, text
        return logging.WARNING if is_news else logging.DEBUG


def _always() -> bool:
    return True
