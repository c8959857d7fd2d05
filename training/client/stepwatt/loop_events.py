"""The steps of a loop that is a library's own: it tells begins and ends in different calls. Used by the callbacks.

A step goes from the end of the one before (or from the end of what came between: a validation, a checkpoint) to its own
end, so that waiting for data is part of it.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from typing import Any

from .runs import Run
from .steps import Step

logger = logging.getLogger("stepwatt")


def harmless(hook: Callable[..., None]) -> Callable[..., None]:
    """Return the hook of a callback such that its failure ends its telling (`is_broken`), never the training."""

    @functools.wraps(hook)
    def call(callback: Any, *arguments: Any, **named: Any) -> None:
        if callback.is_broken:
            return
        try:
            hook(callback, *arguments, **named)
        except Exception:  # the training is not ours: nothing of this may reach it
            callback.is_broken = True
            logger.warning("stepwatt tells no more of this training: %s failed", hook.__name__, exc_info=True)

    return call


class LoopEvents:
    """The open step of a run, and the phase that it is in.

    `number` is the last finished step's; `is_waiting` while no batch of the open step has come.
    """

    def __init__(self, run: Run, number: int = 0) -> None:
        self.run = run
        self.number = number
        self.is_waiting = False
        self._step: Step | None = None
        self._held: Step | None = None
        self._phase = ""
        self._opened = self._phase_began = time.perf_counter()
        self._asides: list[float] = []

    @property
    def is_in_step(self) -> bool:
        return self._step is not None and not self.is_waiting

    def wait(self, phase: str = "data") -> None:
        """Begin the next step, with waiting for its data. One that was begun and got no data is forgotten."""
        self._abandon()
        self._step = self.run.step(self.number + 1).begin()
        self._opened = self._phase_began = time.perf_counter()
        self._phase, self.is_waiting = phase, True

    def phase(self, name: str) -> None:
        """End the phase that the open step is in and begin the next, "" for none that has a name."""
        now = time.perf_counter()
        self.release()
        self.is_waiting = False
        if self._step is not None and self._phase:
            self._step.add_phase(self._phase, now - self._phase_began)
        self._phase, self._phase_began = name, now

    def end(self, number: int, *, is_held: bool = False, **told: object) -> None:
        """End the open step, which turns out to be `number`. Held, it is sent when more is known of it, or the loop goes on."""
        if self._step is None:
            return
        self.phase("")
        self._step.stop()
        self._step.number = self.number = number
        self._step.log(**told)
        self._held, self._step = self._step, None
        if not is_held:
            self.release()

    def release(self, **told: object) -> None:
        """Send the step that is held, with what else is known of it by now."""
        if self._held is not None:
            self._held.log(**told)
            self._held.end()
            self._held = None

    def forget(self) -> None:
        """Leave out the open step: the loop ends, or something else begins before its data came."""
        self.release()
        self._abandon()
        self._phase, self.is_waiting = "", False

    def _abandon(self) -> None:
        if self._step is not None:
            self.run.forget(self._step)
            self._step = None

    def begin_aside(self) -> None:
        """Something other than a step begins; asides may lie within each other."""
        self._asides.append(time.perf_counter())

    def end_aside(self, name: str) -> None:
        """Tell how long it took, without what lay within it, and begin the next step anew if that still waits."""
        if not self._asides:
            return
        seconds = time.perf_counter() - self._asides.pop()
        self._asides = [began + seconds for began in self._asides]
        self._tell_aside(name, seconds)

    def aside_since_opening(self, name: str) -> None:
        """Tell that what took the time since the last step's end was no waiting for data."""
        self._tell_aside(name, time.perf_counter() - self._opened)

    def _tell_aside(self, name: str, seconds: float) -> None:
        self.release()
        self.run.add(name, seconds)
        if self.is_waiting:
            self.wait(self._phase)


class TimedCall:
    """A method of a library's object, watched from its begin to its end while a training lasts.

    For what a library does without telling both: the object gets an attribute of the method's name, and loses it again.
    """

    def __init__(self, owner: Any, name: str, begin: Callable[[], None], end: Callable[[], None]) -> None:
        self._owner, self._name = owner, name
        self._own = vars(owner).get(name)
        while hasattr(self._own, "stepwatt_own"):  # a training that broke off left its watch behind
            self._own = self._own.stepwatt_own
        call = self._own or getattr(type(owner), name).__get__(owner)

        @functools.wraps(call)
        def timed(*arguments: Any, **named: Any) -> Any:
            begin()
            try:
                return call(*arguments, **named)
            finally:
                end()

        timed.stepwatt_own = self._own  # type: ignore[attr-defined]
        setattr(owner, name, timed)

    def undo(self) -> None:
        delattr(self._owner, self._name)
        if self._own is not None:
            setattr(self._owner, self._name, self._own)
