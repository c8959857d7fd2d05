"""Phases timed on the GPU: events that the device passes, read one step late, so that nothing waits for it. Called by steps."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .steps import Step

MOST_LATE = 4  # steps: then a step is told with the phases that the host timed


def event_maker() -> Callable[[], Any] | None:
    """Return what makes torch's CUDA events, None where torch is not loaded or has no CUDA device."""
    torch = sys.modules.get("torch")
    try:
        if torch is None or not torch.cuda.is_available():
            return None
    except Exception:  # noqa: BLE001 — another's library, of any version
        return None
    return lambda: torch.cuda.Event(enable_timing=True)


class _Open:
    """The events of one step: of each phase (name, begin, end)."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.begins: list[Any] = []
        self.phases: list[tuple[str, Any, Any]] = []

    def is_passed(self) -> bool:
        return all(end.query() for _, _, end in self.phases)

    def read(self) -> None:
        """Put the device's seconds in the place of the host's (torch: elapsed_time gives milliseconds)."""
        seconds: dict[str, float] = {}
        for name, begin, end in self.phases:
            seconds[name] = seconds.get(name, 0.0) + begin.elapsed_time(end) / 1000
        self.step.phases.update(seconds)


class DeviceTimer:
    """`send` gets each step once the device has passed its events."""

    def __init__(self, make_event: Callable[[], Any] | None, send: Callable[[Step], None]) -> None:
        self._make_event, self._send = make_event, send
        self._open: _Open | None = None
        self._late: deque[_Open] = deque()

    def begin(self, step: Step) -> None:
        self._open = _Open(step)

    def begin_phase(self, step: Step) -> None:
        if self._open is not None and self._open.step is step:
            self._open.begins.append(self._mark())

    def end_phase(self, step: Step, name: str) -> None:
        if self._open is not None and self._open.step is step and self._open.begins:
            begin, end = self._open.begins.pop(), self._mark()
            if begin is not None and end is not None:
                self._open.phases.append((name, begin, end))

    def end(self, step: Step) -> None:
        """Take a finished step, and send those before it that are ready."""
        self.collect()
        if self._open is not None and self._open.step is step:
            self._late.append(self._open)
            self._open = None
        else:
            self._send(step)

    def collect(self) -> None:
        """Send the steps, in their order, whose events are passed, and those that are too late."""
        while self._late:
            is_passed = self._is_passed(self._late[0])
            if not is_passed and len(self._late) < MOST_LATE:
                return
            late = self._late.popleft()
            if is_passed:
                late.read()
            self._send(late.step)

    def flush(self) -> None:
        """Send all, as far as they are timed."""
        self.collect()
        while self._late:
            self._send(self._late.popleft().step)

    def _mark(self) -> Any:
        try:
            event = self._make_event() if self._make_event else None
            if event is not None:
                event.record()
        except Exception:  # noqa: BLE001 — another's library: the host's time stays
            return None
        return event

    def _is_passed(self, late: _Open) -> bool:
        try:
            return late.is_passed()
        except Exception:  # noqa: BLE001 — another's library, or a device that is lost
            return False
