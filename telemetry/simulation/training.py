"""A simulated training run: its steps on the clock, as the slowest of its ranks allows, and its load at any moment.

Called by the simulated hosts (load) and by whoever reports step timings (the upper package). Proportions are those of
recorded runs: steps within 0.4 % of each other, a first step of several times the length, validation of a few steps'
length every so often (MLPerf training 4.0, GPT-3 175B on 64 × 8 H100: 10.64 s a step, three validation steps of 0.39 of
that after each twelve), and now and then a stall. No Django.
"""

import math
import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from telemetry.simulation.load import PHASES, Load

_WARM_UP = (6.0, 1.6, 1.1)  # how many times longer the first steps take: compilation, caches, allocation
_JITTER = 0.004
_STALL_SHARE = 1 / 300
_LONG_STEP_SECONDS = 3.0  # from here on the phases within a step can be told apart at 1 Hz
_REDUCE_SHARE = 0.15
_KEPT = 4_096


@dataclass(frozen=True, slots=True)
class Plan:
    """A run as its user set it up. Seconds are those of a step on boards at full clocks, and so is `mfu`.

    `about` is what its loop tells of its model, as a client does.
    """

    name: str
    step_seconds: float
    samples_per_step: float
    tokens_per_sample: float
    group: str = "research"  # whose run it is said to be
    loss_start: float = 10.9
    loss_end: float = 2.2
    validation_every: int = 12
    validation_steps: float = 1.17  # how many training steps it takes altogether
    checkpoint_every: int = 60
    checkpoint_seconds: float = 20.0
    mfu: float = 0.4
    about: Mapping[str, Any] = field(default_factory=dict)


Place = tuple[int, int]
"""A rank's place in the fleet: its host and its GPU there."""


@dataclass(frozen=True, slots=True)
class SimulatedStep:
    """One step: UTC seconds of its start, and how long a rank at full clocks took. `phase` tells what is no training step.

    `paces` has by what the clocks of slow ranks lengthened it (above 1), of those alone.
    """

    number: int
    start: float
    seconds: float
    loss: float
    is_warmup: bool
    paces: Mapping[Place, float]
    phase: str = ""

    @property
    def slowest(self) -> float:
        return max(self.paces.values(), default=1.0)

    @property
    def end(self) -> float:
        return self.start + self.seconds * self.slowest


@dataclass(frozen=True, slots=True)
class _Segment:
    start: float
    end: float
    phase: str


class TrainingRun:
    """`launch` names this start of it."""

    def __init__(self, plan: Plan, launch: str, start: float, seed: str) -> None:
        self.plan, self.launch = plan, launch
        self._paces: Mapping[Place, float] = {}
        self._choose = random.Random(seed)  # noqa: S311 — a simulation is to be repeatable
        self._made_until = start
        self._number = 0
        self._segments: deque[_Segment] = deque(maxlen=_KEPT)
        self._finished: deque[SimulatedStep] = deque(maxlen=_KEPT)

    def hold_up(self, place: Place, by: float) -> None:
        """Have a rank take longer by this factor from the next step on, and all others wait for it; 1: it does no more."""
        others = {each: pace for each, pace in self._paces.items() if each != place}
        self._paces = others | ({place: by} if by > 1 else {})  # steps that were made keep theirs

    @property
    def _slowest(self) -> float:
        return max(self._paces.values(), default=1.0)

    def at(self, seconds: float) -> Load:
        """Return what every GPU of the run does then; asked in order of time, give or take the steps that are kept."""
        self._make(seconds)
        for segment in reversed(self._segments):
            if segment.start <= seconds:
                break
        else:
            return PHASES["starve"]  # the run has not begun
        return self._within(segment, seconds)

    def take_steps(self, until: float) -> list[SimulatedStep]:
        """Return the steps that the slowest rank has ended by then, each once."""
        self._make(until)
        taken = []
        while self._finished and self._finished[0].end <= until:
            taken.append(self._finished.popleft())
        return taken

    def _within(self, segment: _Segment, seconds: float) -> Load:
        load = PHASES[segment.phase]
        length = segment.end - segment.start
        if segment.phase != "compute":
            return load
        if length >= _LONG_STEP_SECONDS:
            is_reducing = seconds > segment.end - _REDUCE_SHARE * length
            return PHASES["reduce"] if is_reducing else load
        return _MIXED

    def _make(self, until: float) -> None:
        while self._made_until <= until:
            self._one_step()

    def _one_step(self) -> None:
        plan, number, choose = self.plan, self._number, self._choose
        factor = _WARM_UP[number] if number < len(_WARM_UP) else 1.0
        if number >= len(_WARM_UP) and choose.random() < _STALL_SHARE:
            self._add("starve", plan.step_seconds * choose.uniform(0.5, 3))
        seconds = plan.step_seconds * factor * max(0.9, choose.gauss(1.0, _JITTER))
        self._finished.append(
            SimulatedStep(number, self._made_until, seconds, self._loss(number), number < len(_WARM_UP), self._paces)
        )
        self._add("compute", seconds * self._slowest)
        self._number += 1
        if self._number % plan.validation_every == 0:
            self._beside("validate", plan.step_seconds * plan.validation_steps * self._slowest)
        if self._number % plan.checkpoint_every == 0:
            self._beside("save", plan.checkpoint_seconds * choose.uniform(0.8, 1.3))

    def _beside(self, phase: str, seconds: float) -> None:
        aside = SimulatedStep(
            self._number, self._made_until, seconds / self._slowest, math.nan, is_warmup=False, paces=self._paces,
            phase=phase,
        )  # fmt: skip
        self._finished.append(aside)
        self._add(phase, seconds)

    def _add(self, phase: str, seconds: float) -> None:
        self._segments.append(_Segment(self._made_until, self._made_until + seconds, phase))
        self._made_until += seconds

    def _loss(self, number: int) -> float:
        """Return a loss that falls as a power of the steps, with the noise of a batch."""
        plan = self.plan
        mean = plan.loss_end + (plan.loss_start - plan.loss_end) * math.pow(1 + number / 40, -0.55)
        return mean * self._choose.gauss(1.0, 0.006)


def _mixture(one: Load, other: Load, share: float) -> Load:
    mixed = {
        name: getattr(one, name) * (1 - share) + getattr(other, name) * share for name in ("tensor", "dram", "nvlink")
    }
    return replace(one, **mixed)


_MIXED = _mixture(PHASES["compute"], PHASES["reduce"], _REDUCE_SHARE)
