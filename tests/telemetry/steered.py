"""Backends that a test steers: what each device answers, and which call hangs until the test lets it go on."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from telemetry.agent.backends.protocol import BackendUnavailable, Reading
from telemetry.message.wire import DeviceEvent, DeviceInfo, DeviceKind, DeviceProcess, Topology

POWER: Mapping[str, Reading] = {"power_draw_watts": 300.0}


class SteeredSource:
    """`answer` is called for each reading; a Hang in its place does not return."""

    def __init__(self, uuid: str, answer: Callable[[], object] = lambda: dict(POWER)) -> None:
        self.device = DeviceInfo(uuid, DeviceKind.NVIDIA, 0, "test device")
        self.answer = answer
        self.reads = 0
        self.users: Sequence[DeviceProcess] | None = None

    def read(self) -> object:
        self.reads += 1
        return self.answer()

    def processes(self) -> Sequence[DeviceProcess] | None:
        return self.users


class PowerSource(SteeredSource):
    def read_power(self) -> Mapping[str, Reading]:
        return {"power_draw_watts": 301.0}


class Hang:
    """Called, it does not return before `end`; counts who waits in it."""

    def __init__(self, answer: Callable[[], object] = lambda: dict(POWER)) -> None:
        self.answer = answer
        self.callers = 0
        self._ended = threading.Event()

    def __call__(self) -> object:
        self.callers += 1
        self._ended.wait(30)
        self.callers -= 1
        return self.answer()

    def end(self) -> None:
        self._ended.set()


class SteeredBackend:
    releasable = True

    def __init__(self, name: str, *sources: SteeredSource) -> None:
        self.name = name
        self.found: list[SteeredSource] = list(sources) or [SteeredSource(f"GPU-{name}")]
        self.opened = self.closed = 0
        self.missing = False
        self.opening: Callable[[], object] = lambda: None
        self.listing: Callable[[], object] = lambda: None
        self.events: list[DeviceEvent] = []
        self.versions = {name: "1.0"}
        self.joined: Topology | None = None

    def open(self) -> None:
        self.opening()
        if self.missing:
            raise BackendUnavailable("no driver")
        self.opened += 1

    def sources(self) -> list[SteeredSource]:
        self.listing()
        return self.found

    def software(self) -> dict[str, str]:
        return self.versions

    def topology(self) -> Topology | None:
        return self.joined

    def take_events(self) -> list[DeviceEvent]:
        events, self.events = self.events, []
        return events

    def close(self) -> None:
        self.closed += 1


class Clock:
    """Time that passes only when a test says so."""

    def __init__(self, seconds: float = 1000.0) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds

    def pass_by(self, seconds: float) -> None:
        self.seconds += seconds


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the awaited condition did not come"
        time.sleep(0.01)
