"""The sampler: reads every backend once a tick, each on a thread of its own.

So a driver call that hangs holds up nobody else. Called by the agent's process; the batcher takes the ticks away.

Ticks lie on a grid of CLOCK_BOOTTIME, which runs on through suspend and knows no wall-clock steps. Each tick carries the
offset to the wall clock that was read beside it.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite

from telemetry.agent.backends.protocol import Backend, BackendUnavailable, Reading
from telemetry.catalog import BY_NAME, AbsentReason
from telemetry.wire import DeviceInfo

logger = logging.getLogger(__name__)

REOPEN_SECONDS = 30.0  # where there is no driver: one may be installed
FAULT_PAUSE_SECONDS = 1.0
HANGING_TICKS = 3  # a backend that is this many ticks late is said to hang
HANGING: Mapping[str, Reading] = {
    "gpu_utilization_ratio": AbsentReason.TIMEOUT
}  # what a tick holds that got no answer in time


def boot_seconds() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(slots=True)
class Tick:
    """What was read at one point of the grid: readings by device uuid."""

    boot_seconds: float
    wall_offset_seconds: float
    devices: dict[str, DeviceInfo] = field(default_factory=dict)
    readings: dict[str, dict[str, Reading]] = field(default_factory=dict)


class Lane:
    """One backend on its own thread."""

    def __init__(
        self,
        backend: Backend,
        deposit: "Callable[[Lane, int, float, list[tuple[DeviceInfo, Mapping[str, Reading]]]], None]",
        period: float,
    ) -> None:
        self.backend = backend
        self.devices: dict[str, DeviceInfo] = {}
        self.software: Mapping[str, str] = {}
        self.last_tick = -1
        self.worst_lateness = 0.0
        self._deposit = deposit
        self._period = period
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"sample-{backend.name}", daemon=True)

    def start(self, first_tick: float) -> None:
        self._first_tick = first_tick
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=1)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._live()
            except BackendUnavailable as missing:
                logger.info("%s: %s", self.backend.name, missing)
                self._stop.wait(REOPEN_SECONDS)
            except Exception:  # the outermost loop of this thread: log, let the driver go, take it up again
                logger.exception("%s failed and is opened again", self.backend.name)
                self._stop.wait(FAULT_PAUSE_SECONDS)

    def _live(self) -> None:
        """Open the driver, sample until told to stop, let go of it."""
        self.backend.open()
        try:
            self.software = self.backend.software()
            self._sample()
        finally:
            self.backend.close()

    def _sample(self) -> None:
        while True:
            number = int((boot_seconds() - self._first_tick) / self._period) + 1
            due = self._first_tick + number * self._period
            if self._stop.wait(max(0.0, due - boot_seconds())):
                return
            lateness = boot_seconds() - due
            readings = [(source.device, source.read()) for source in self.backend.sources()]
            self.devices = {device.uuid: device for device, _ in readings}
            self.last_tick = number
            self.worst_lateness = max(self.worst_lateness, lateness)
            if boot_seconds() - due > self._period / 2:
                # These readings would stand at a wrong time: the tick says that the driver was too slow for it.
                readings = [(device, HANGING) for device in self.devices.values()]
            self._deposit(self, number, due, readings)


class Sampler:
    """All lanes on one grid of ticks."""

    def __init__(self, backends: Sequence[Backend], period: float) -> None:
        self._period = period
        self._lock = threading.Lock()
        self._ticks: dict[int, Tick] = {}
        self._lanes = [Lane(backend, self._deposit, period) for backend in backends]
        self._started = boot_seconds()

    def start(self) -> None:
        for lane in self._lanes:
            lane.start(self._started)

    def stop(self) -> None:
        for lane in self._lanes:
            lane.stop()

    def devices(self) -> list[DeviceInfo]:
        return [device for lane in self._lanes for device in lane.devices.values()]

    def software(self) -> dict[str, str]:
        return {name: version for lane in self._lanes for name, version in lane.software.items()}

    def worst_lateness(self) -> float:
        """Return how late the latest tick since the last call began, in seconds."""
        worst = max((lane.worst_lateness for lane in self._lanes), default=0.0)
        for lane in self._lanes:
            lane.worst_lateness = 0.0
        return worst

    def take(self, *, everything: bool = False) -> list[Tick]:
        """Return the ticks that are complete, oldest first, and forget them.

        The newest tick stays until its successor is due, since a slower lane may still add to it.
        """
        current = int((boot_seconds() - self._started) / self._period)
        with self._lock:
            numbers = sorted(number for number in self._ticks if everything or number < current)
            taken = [(number, self._ticks.pop(number)) for number in numbers]
        for number, tick in taken:
            self._mark_hanging(number, tick)
        return [tick for _, tick in taken]

    def _deposit(
        self, lane: Lane, number: int, due: float, readings: list[tuple[DeviceInfo, Mapping[str, Reading]]]
    ) -> None:
        offset = time.time() - boot_seconds()
        with self._lock:
            tick = self._ticks.setdefault(number, Tick(due, offset))
            for device, values in readings:
                tick.devices[device.uuid] = device
                tick.readings[device.uuid] = {name: _checked(name, value) for name, value in values.items()}

    def _mark_hanging(self, number: int, tick: Tick) -> None:
        for lane in self._lanes:
            if lane.devices and number - lane.last_tick >= HANGING_TICKS:
                for uuid, device in lane.devices.items():
                    tick.devices[uuid] = device
                    tick.readings[uuid] = dict(HANGING)


def _checked(name: str, value: Reading) -> Reading:
    """Return the value if it is a finite number that the wire can carry, else UNKNOWN."""
    if isinstance(value, AbsentReason):
        return value
    if not isfinite(value) or abs(value / BY_NAME[name].resolution) >= 2**62:
        return AbsentReason.UNKNOWN
    return value
