"""A step of the loop, from its begin to its end: what the body of a training loop touches. Made by the run."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

from .wire import TRAIN, number

if TYPE_CHECKING:
    from .device_timing import DeviceTimer
    from .runs import Run

_now = time.perf_counter_ns  # CLOCK_MONOTONIC on Linux, which the agent reads too


class Step:
    """One step of the loop, timed from `with` to its end. One that ends by an exception is not told.

    Where no `with` can hold it, `begin` and `end` do. `phases` are the seconds of its parts by name.
    """

    # Defaults stand here, and not in each step: what a step has not to tell costs it nothing.
    kind = TRAIN
    samples: float | None = None
    tokens: float | None = None
    loss: float | None = None
    compute_seconds: float | None = None
    began_ns = 0
    ended_ns = 0  # on CLOCK_MONOTONIC
    is_told = False
    timer: DeviceTimer | None = None

    def __init__(self, run: Run, number: int, is_warmup: bool) -> None:
        self._run = run
        self.number = number
        self.is_warmup = is_warmup
        self.phases: dict[str, float] = {}

    def log(
        self, *, loss: object = None, samples: object = None, tokens: object = None, compute_seconds: object = None
    ) -> None:
        """Note what the step has to tell. Plain numbers only: to read a tensor would wait for its device.

        `compute_seconds` is how long this rank computed before it had to wait for others.
        """
        self.loss = number(loss, self.loss)
        self.samples = number(samples, self.samples)
        self.tokens = number(tokens, self.tokens)
        self.compute_seconds = number(compute_seconds, self.compute_seconds)

    def phase(self, name: str) -> Phase:
        """Time a part of the step, such as "forward", with a `with`; parts of one name add up."""
        return Phase(self, str(name))

    def add_phase(self, name: str, seconds: float) -> None:
        """Add time to a part of the step, where its begin and its end lie in different calls."""
        self.phases[str(name)] = self.phases.get(str(name), 0.0) + (number(seconds) or 0.0)

    def begin(self) -> Step:
        """Begin the step where no `with` can hold it; `end` ends it."""
        self._run.open_step = self
        if self.timer is not None:
            self.timer.begin(self)
        self.began_ns = _now()
        return self

    def stop(self) -> None:
        """Take the step's time, and let it wait for `end`: what is told of it may come later."""
        if not self.ended_ns:
            self.ended_ns = _now()

    def end(self) -> None:
        """Take the step's time and hand it to the agent, once."""
        if not self.ended_ns:
            self.ended_ns = _now()
        if not self.is_told:
            self.is_told = True
            self._run.tell(self)

    __enter__ = begin

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.ended_ns:
            self.ended_ns = _now()
        if kind is not None:
            self._run.forget(self)
        elif not self.is_told:
            self.is_told = True
            self._run.tell(self)


class Phase:
    """A part of a step under way."""

    def __init__(self, step: Step, name: str) -> None:
        self._step, self._name = step, name
        self._began = _now()

    def __enter__(self) -> None:
        if self._step.timer is not None:
            self._step.timer.begin_phase(self._step)
        self._began = _now()

    def __exit__(self, *_: object) -> None:
        seconds = (_now() - self._began) / 1e9
        phases = self._step.phases
        phases[self._name] = phases.get(self._name, 0.0) + seconds
        if self._step.timer is not None:
            self._step.timer.end_phase(self._step, self._name)


class Aside:
    """Time outside of steps under way, such as a validation: told when it ends, unless by an exception."""

    def __init__(self, run: Run, name: str) -> None:
        self._run, self._name = run, name
        self._began = _now()

    def __enter__(self) -> None:
        self._began = _now()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._run.add(self._name, (_now() - self._began) / 1e9)
