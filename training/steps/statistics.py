"""Step times, rates and phases of a run over a window, all ranks together. Called by the figures. Pure numpy, no Django.

A rate is N/Δt: N are the samples (tokens) of all ranks' training steps, a step that lies in the window in part counting with
that part of its time; Δt is the wall time of the same window, whatever else was done in it. So windows that adjoin add up.
A global step is what all ranks do under one number: its time is the slowest rank's, its samples are the sum.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.steps.columns import Floats, StepColumns, StepKind


@dataclass(frozen=True, slots=True)
class GlobalSteps:
    """Training steps across ranks, in order of (attempt, number), each `(n_global,)`; `n_ranks` told of theirs."""

    attempt: NDArray[np.int32]
    number: NDArray[np.int64]
    seconds: Floats
    ended_ms: Floats
    n_ranks: NDArray[np.int64]
    is_warmup: NDArray[np.bool_]

    def between(self, start_ms: float, end_ms: float) -> "GlobalSteps":
        """Return those that ended from `start_ms` on and before `end_ms`."""
        inside = (self.ended_ms >= start_ms) & (self.ended_ms < end_ms)
        if inside.all():
            return self
        return GlobalSteps(*(getattr(self, name)[inside] for name in self.__slots__))


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
    """`amount` over `seconds` of wall time, and over `step_seconds`, the part of it that training steps took (goodput.py).

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


def training_of(steps: StepColumns) -> StepColumns:
    """Return the training steps; the same columns where there are no others: a million steps are not copied for nothing."""
    is_train = steps.kind == StepKind.TRAIN
    return steps if is_train.all() else steps.select(is_train)


def by_number(train: StepColumns) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the places of the steps in order of (attempt, number), and where in that order each global step begins."""
    if len(train) and train.attempt.min() == train.attempt.max():
        order = np.argsort(train.number, kind="stable")  # quick, as they come nearly in order
        is_first = np.ones(order.size, bool)
    else:
        order = np.lexsort((train.number, train.attempt))
        is_first = np.ones(order.size, bool)
        is_first[1:] = np.diff(train.attempt[order]) != 0
    number = train.number[order]
    is_first[1:] = (number[1:] != number[:-1]) | (
        is_first[1:] & (train.attempt[order][1:] != train.attempt[order][:-1])
    )
    return order, np.flatnonzero(is_first)


def global_steps(steps: StepColumns) -> GlobalSteps:
    """Return the training steps across ranks."""
    train = training_of(steps)
    order, begins = by_number(train)
    if not begins.size:
        none = np.empty(0)
        return GlobalSteps(train.attempt, train.number, none, none, np.empty(0, np.int64), np.empty(0, bool))
    firsts = order[begins]
    if begins.size == order.size:  # one rank
        return GlobalSteps(
            train.attempt[firsts], train.number[firsts], train.seconds[firsts], train.ended_ms[firsts],
            np.ones(begins.size, np.int64), train.is_warmup[firsts],
        )  # fmt: skip
    return GlobalSteps(
        train.attempt[firsts],
        train.number[firsts],
        np.maximum.reduceat(train.seconds[order], begins),
        np.maximum.reduceat(train.ended_ms[order], begins),
        np.diff(begins, append=order.size),
        np.logical_or.reduceat(train.is_warmup[order], begins),
    )


def step_times(found: GlobalSteps) -> StepTimes:
    """Return median, 95th percentile and longest of the steps without warm-up, seconds; None where there is none."""
    seconds = found.seconds[~found.is_warmup & np.isfinite(found.seconds)]
    n_warmup = int(found.is_warmup.sum())
    if not seconds.size:
        return StepTimes(0, None, None, None, n_warmup)
    median, p95 = np.quantile(seconds, (0.5, 0.95))
    return StepTimes(seconds.size, float(median), float(p95), float(seconds.max()), n_warmup)


def share_inside(ended_ms: Floats, seconds: Floats, start_ms: float, end_ms: float) -> Floats:
    """Return which part of each step's time `(n_steps,)` lies between two times."""
    began_ms = ended_ms - seconds * 1000
    share = ((ended_ms > start_ms) & (ended_ms <= end_ms)).astype(float)  # a step without a length is a moment
    cut = np.flatnonzero((ended_ms > start_ms) & (began_ms < end_ms) & ((began_ms < start_ms) | (ended_ms > end_ms)))
    length = ended_ms[cut] - began_ms[cut]
    overlap = np.minimum(ended_ms[cut], end_ms) - np.maximum(began_ms[cut], start_ms)
    share[cut] = overlap / length
    return share


def n_inside(found: GlobalSteps, start_ms: float, end_ms: float) -> float:
    """Return how many global steps lie in the window, those at its edges in part."""
    return float(share_inside(found.ended_ms, found.seconds, start_ms, end_ms).sum())


def rates(steps: StepColumns, start_ms: float, end_ms: float, step_seconds: float) -> dict[str, Rate]:
    """Return the rates of samples and tokens; `steps` must hold also those that end soon after the window."""
    train = training_of(steps)
    share = share_inside(train.ended_ms, train.seconds, start_ms, end_ms)
    seconds = (end_ms - start_ms) / 1000
    return {name: _rate(name, getattr(train, name), share, seconds, step_seconds) for name in ("samples", "tokens")}


def _rate(name: str, amounts: Floats, share: Floats, seconds: float, step_seconds: float) -> Rate:
    n_inside_ = np.count_nonzero(share)
    if not n_inside_:
        return Rate(None, seconds, step_seconds, 0.0, "no training step in this window")
    told = np.isfinite(amounts)
    n_told = np.count_nonzero(share[told])
    if not n_told:
        return Rate(None, seconds, step_seconds, 0.0, f"the loop does not tell its {name}")
    told_share = n_told / n_inside_
    reason = "" if told_share == 1 else f"{told_share:.1%} of the steps tell their {name}: the others are not in it"
    amount = float(share @ amounts) if told.all() else float(share[told] @ amounts[told])
    return Rate(amount, seconds, step_seconds, told_share, reason)


def phases(steps: StepColumns) -> Phases:
    """Return the share of each phase in the time of training steps without warm-up, all ranks together."""
    told = np.zeros(len(steps), bool)
    for seconds in steps.phases.values():
        told |= np.isfinite(seconds)
    told &= (steps.kind == StepKind.TRAIN) & ~steps.is_warmup
    whole = float(steps.seconds[told].sum())
    if whole <= 0:
        return Phases({}, None, 0)
    sums = {name: float(np.nansum(seconds[told])) for name, seconds in steps.phases.items()}
    shares = {name: seconds / whole for name, seconds in sums.items() if seconds > 0}
    return Phases(shares, max(0.0, 1.0 - sum(shares.values())), int(told.sum()))
