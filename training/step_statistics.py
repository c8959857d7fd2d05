"""Step times, rates and phases of a run over a window, all ranks together. Called by the figures. Pure numpy, no Django.

A rate is N/Δt: N are the samples (tokens) of all ranks' training steps, a step that lies in the window in part counting with
that part of its time; Δt is the wall time of the same window, whatever else was done in it. So windows that adjoin add up.
A global step is what all ranks do under one number: its time is the slowest rank's, its samples are the sum.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.step_columns import Floats, StepColumns, StepKind


@dataclass(frozen=True, slots=True)
class GlobalSteps:
    """Training steps across ranks, in order of (attempt, number), each `(n_global,)`; `n_ranks` told of theirs."""

    attempt: NDArray[np.int32]
    number: NDArray[np.int64]
    seconds: Floats
    ended_ms: Floats
    n_ranks: NDArray[np.int64]
    is_warmup: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Seconds of global steps without warm-up; None where there is none."""

    n_steps: int
    median: float | None
    p95: float | None
    slowest: float | None
    n_warmup: int


@dataclass(frozen=True, slots=True)
class Rate:
    """`amount` over `seconds` of wall time, and over `step_seconds`, those in which some rank was in a training step.

    `amount` is None with the `reason` where no rank tells it; `told_share` is that of the steps whose rank does.
    """

    amount: float | None
    seconds: float
    step_seconds: float
    told_share: float
    reason: str = ""

    @property
    def per_second(self) -> float | None:
        return self.amount / self.seconds if self.amount is not None and self.seconds > 0 else None

    @property
    def per_step_second(self) -> float | None:
        return self.amount / self.step_seconds if self.amount is not None and self.step_seconds > 0 else None


@dataclass(frozen=True, slots=True)
class Phases:
    """Share of step time by phase, of those steps that tell any; what no phase names is `untold_share`."""

    shares: Mapping[str, float]
    untold_share: float | None
    n_steps: int


def global_steps(steps: StepColumns) -> GlobalSteps:
    """Return the training steps across ranks."""
    train = steps.of_kind(StepKind.TRAIN)
    order = np.lexsort((train.number, train.attempt))
    attempt, number = train.attempt[order], train.number[order]
    is_first = np.ones(order.size, bool)
    is_first[1:] = (attempt[1:] != attempt[:-1]) | (number[1:] != number[:-1])
    begins = np.flatnonzero(is_first)
    if not begins.size:
        none = np.empty(0)
        return GlobalSteps(attempt, number, none, none, np.empty(0, np.int64), np.empty(0, bool))
    return GlobalSteps(
        attempt[begins],
        number[begins],
        np.maximum.reduceat(train.seconds[order], begins),
        np.maximum.reduceat(train.ended_ms[order], begins),
        np.diff(begins, append=order.size),
        np.logical_or.reduceat(train.is_warmup[order], begins),
    )


def step_times(found: GlobalSteps) -> StepTimes:
    seconds = found.seconds[~found.is_warmup & np.isfinite(found.seconds)]
    n_warmup = int(found.is_warmup.sum())
    if not seconds.size:
        return StepTimes(0, None, None, None, n_warmup)
    median, p95 = np.quantile(seconds, (0.5, 0.95))
    return StepTimes(seconds.size, float(median), float(p95), float(seconds.max()), n_warmup)


def share_inside(steps: StepColumns, start_ms: float, end_ms: float) -> Floats:
    """Return which part of each step's time `(n_steps,)` lies between two times."""
    length = steps.ended_ms - steps.began_ms  # as the clock's digits allow: what is shorter is a moment
    overlap = np.minimum(steps.ended_ms, end_ms) - np.maximum(steps.began_ms, start_ms)
    is_inside = (steps.ended_ms > start_ms) & (steps.ended_ms <= end_ms)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(length > 0, np.clip(overlap / length, 0.0, 1.0), is_inside)
    return np.where(np.isfinite(length), share, is_inside)


def rate(steps: StepColumns, column: str, start_ms: float, end_ms: float, step_seconds: float) -> Rate:
    """Return the rate of `samples` or `tokens`; `steps` must hold also those that end soon after the window."""
    train = steps.of_kind(StepKind.TRAIN)
    share = share_inside(train, start_ms, end_ms)
    amounts = getattr(train, column)
    inside = share > 0
    told = inside & np.isfinite(amounts)
    seconds = (end_ms - start_ms) / 1000
    if not inside.any():
        return Rate(None, seconds, step_seconds, 0.0, "no training step in this window")
    if not told.any():
        return Rate(None, seconds, step_seconds, 0.0, f"the loop does not tell its {column}")
    told_share = float(told.sum() / inside.sum())
    reason = "" if told_share == 1 else f"{told_share:.1%} of the steps tell their {column}: the others are not in it"
    return Rate(float(share[told] @ amounts[told]), seconds, step_seconds, told_share, reason)


def phases(steps: StepColumns) -> Phases:
    """Return the share of each phase in the time of training steps without warm-up, all ranks together."""
    train = steps.select((steps.kind == StepKind.TRAIN) & ~steps.is_warmup)
    told = np.zeros(len(train), bool)
    for seconds in train.phases.values():
        told |= np.isfinite(seconds)
    whole = float(train.seconds[told].sum())
    if whole <= 0:
        return Phases({}, None, 0)
    sums = {name: float(np.nansum(seconds[told])) for name, seconds in train.phases.items()}
    shares = {name: seconds / whole for name, seconds in sums.items() if seconds > 0}
    return Phases(shares, max(0.0, 1.0 - sum(shares.values())), int(told.sum()))
