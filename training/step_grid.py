"""The training steps of a window as columns of a chart: one for each step where they fit, else means within equal times.

numpy only, no Django. Called by the run page's charts. A step of several ranks is as long as its slowest rank's; its
samples and tokens are the sum over ranks, its phases their mean.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from training.step_columns import Floats, StepColumns, StepKind

Places = NDArray[np.int64]


@dataclass(frozen=True)
class StepGrid:
    """Columns in order of time, each `(n,)`; NaN in a column that no step covers, or where the loop did not tell.

    `seconds` is the mean, `low` and `high` the shortest and longest step of a column; rates are those of all ranks together
    while they step. `loss` is a mean. A column `is_warmup` where some step in it is.
    """

    start_ms: Floats
    end_ms: Floats
    seconds: Floats
    low: Floats
    high: Floats
    samples_per_second: Floats
    tokens_per_second: Floats
    loss: Floats
    phases: Mapping[str, Floats]
    is_warmup: NDArray[np.bool_]
    is_each: bool
    step_ms: float = 0.0

    def __len__(self) -> int:
        return self.start_ms.size

    @cached_property
    def has_phases(self) -> bool:
        return any(np.isfinite(values).any() for values in self.phases.values())


def grid(steps: StepColumns, start_ms: float, end_ms: float, columns: int) -> StepGrid:
    """Return the steps of kind train that ended within the window, in at most `columns` columns."""
    shown = trained(steps.between(start_ms, end_ms))
    n_ranks = int(np.count_nonzero(np.bincount(shown.rank)))
    if len(shown) <= columns * max(1, n_ranks):
        each = _each(shown)
        if len(each) <= columns:
            return each
    return _binned(shown, n_ranks, start_ms, end_ms, columns)


def binned(steps: StepColumns, start_ms: float, end_ms: float, columns: int) -> StepGrid:
    """Return the steps of kind train as means within `columns` equal times, however few they are."""
    shown = trained(steps.between(start_ms, end_ms))
    return _binned(shown, int(np.count_nonzero(np.bincount(shown.rank))), start_ms, end_ms, columns)


def trained(steps: StepColumns) -> StepColumns:
    """Return the steps of kind train; nothing is copied where there are no others."""
    return steps.of_kind(StepKind.TRAIN) if steps.kind.any() else steps


# One column for each step --------------------------------------------------------------------------------------


def _each(steps: StepColumns) -> StepGrid:
    order = np.lexsort((steps.number, steps.attempt))
    number, attempt = steps.number[order], steps.attempt[order]
    is_first = np.ones(order.size, np.bool_)
    is_first[1:] = (np.diff(number) != 0) | (np.diff(attempt) != 0)
    begins = np.flatnonzero(is_first)
    if not begins.size:
        return _empty()
    slowest = np.maximum.reduceat(steps.seconds[order], begins)
    ended = np.maximum.reduceat(steps.ended_ms[order], begins)
    by_time = np.argsort(ended, kind="stable")
    group = np.cumsum(is_first) - 1

    def sums(values: Floats) -> tuple[Floats, Places]:
        known = ~np.isnan(values[order])
        n = np.bincount(group[known], minlength=begins.size)
        total = np.bincount(group[known], values[order][known], minlength=begins.size)
        return np.where(n > 0, total, np.nan)[by_time], n[by_time]

    def mean(values: Floats) -> Floats:
        total, n = sums(values)
        return total / np.maximum(n, 1)

    seconds = slowest[by_time]

    return StepGrid(
        start_ms=ended[by_time] - seconds * 1000,
        end_ms=ended[by_time],
        seconds=seconds,
        low=np.minimum.reduceat(steps.seconds[order], begins)[by_time],
        high=seconds,
        samples_per_second=sums(steps.samples)[0] / seconds,
        tokens_per_second=sums(steps.tokens)[0] / seconds,
        loss=mean(steps.loss),
        phases={name: mean(values) for name, values in steps.phases.items()},
        is_warmup=np.logical_or.reduceat(steps.is_warmup[order], begins)[by_time],
        is_each=True,
    )


def _empty() -> StepGrid:
    none = np.empty(0)
    return StepGrid(none, none, none, none, none, none, none, none, {}, np.empty(0, np.bool_), is_each=True)


# Means within equal times --------------------------------------------------------------------------------------


def _binned(steps: StepColumns, n_ranks: int, start_ms: float, end_ms: float, columns: int) -> StepGrid:
    """Steps are sorted by their end, so each column is one slice of them: what it costs is one pass a column of theirs."""
    step_ms = (end_ms - start_ms) / columns
    if not len(steps):
        return _empty()
    starts: Floats = start_ms + np.arange(columns, dtype=np.float64) * step_ms
    begins = np.searchsorted(steps.ended_ms, starts)
    counts = np.diff(begins, append=len(steps))
    covering = _covering(steps, starts + step_ms / 2, begins, counts)
    known = covering >= 0
    filled = np.flatnonzero(counts)
    first = begins[filled]

    def spread(values: Floats) -> Floats:
        """Give a column in which no step ended the value of the step that goes on through it."""
        own, out = np.full(columns, np.nan), np.full(columns, np.nan)
        own[filled] = values
        out[known] = own[covering[known]]
        return out

    def sums(values: Floats) -> tuple[Floats, Floats]:
        told = ~np.isnan(values)
        if told.all():
            return np.add.reduceat(values, first), counts[filled].astype(np.float64)
        n = np.add.reduceat(told, first, dtype=np.float64)
        return np.where(n > 0, np.add.reduceat(np.where(told, values, 0.0), first), np.nan), n

    def mean(values: Floats) -> Floats:
        total, n = sums(values)
        return spread(total / np.maximum(n, 1))

    spent = np.add.reduceat(steps.seconds, first)

    def rate(values: Floats) -> Floats:
        return spread(sums(values)[0] * n_ranks / spent)

    return StepGrid(
        start_ms=starts,
        end_ms=starts + step_ms,
        seconds=mean(steps.seconds),
        low=spread(np.minimum.reduceat(steps.seconds, first)),
        high=spread(np.maximum.reduceat(steps.seconds, first)),
        samples_per_second=rate(steps.samples),
        tokens_per_second=rate(steps.tokens),
        loss=mean(steps.loss),
        phases={name: mean(values) for name, values in steps.phases.items()},
        is_warmup=spread(np.logical_or.reduceat(steps.is_warmup, first).astype(np.float64)) > 0,
        is_each=False,
        step_ms=step_ms,
    )


def _covering(steps: StepColumns, middles_ms: Floats, begins: Places, counts: Places) -> Places:
    """Return for each column the column whose value it shows: its own, or that of the step in its middle; else -1."""
    covering = np.where(counts > 0, np.arange(counts.size), -1)
    empty = np.flatnonzero((counts == 0) & (begins < len(steps)))
    following = begins[empty]  # the first step that ends after the column began
    reaches = steps.ended_ms[following] - steps.seconds[following] * 1000 <= middles_ms[empty]
    covering[empty[reaches]] = np.searchsorted(begins, following[reaches], side="right") - 1
    return covering


def median_by_rank(steps: StepColumns) -> dict[int, float]:
    """Return the median training step in seconds by rank; warm-up is left out where there is anything else."""
    train = trained(steps)
    measured = train.select(~train.is_warmup)
    shown = measured if len(measured) else train
    order = np.argsort(shown.rank, kind="stable")
    ranks, begins = np.unique(shown.rank[order], return_index=True)
    seconds = np.split(shown.seconds[order], begins[1:]) if ranks.size else []
    return {int(rank): float(np.median(values)) for rank, values in zip(ranks, seconds, strict=True)}
