"""The training steps of a window as columns of a chart: one for each step where they fit, else means within equal times.

numpy only, no Django. Called by the run page's charts and the API. A step of several ranks is as long as its slowest rank's; its
samples and tokens are the sum over ranks, its phases their mean.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.steps.columns import Floats, StepColumns, StepKind

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


class _Groups:
    """The rows of each global step: `begins (n,)` in the order of (attempt, number); what is given comes in order of time."""

    def __init__(self, steps: StepColumns) -> None:
        self.order = np.lexsort((steps.number, steps.attempt))
        number, attempt = steps.number[self.order], steps.attempt[self.order]
        is_first = np.ones(self.order.size, np.bool_)
        is_first[1:] = (np.diff(number) != 0) | (np.diff(attempt) != 0)
        self.begins = np.flatnonzero(is_first)
        self._group = np.cumsum(is_first) - 1
        ended = np.maximum.reduceat(steps.ended_ms[self.order], self.begins) if self.begins.size else np.empty(0)
        self._by_time = np.argsort(ended, kind="stable")
        self.ended_ms: Floats = ended[self._by_time]

    def most(self, values: NDArray[Any], function: np.ufunc) -> NDArray[Any]:
        """Return the greatest (or what the function makes) of each step's ranks."""
        found: NDArray[Any] = function.reduceat(values[self.order], self.begins)[self._by_time]
        return found

    def sums(self, values: Floats) -> tuple[Floats, Places]:
        """Return the sum over ranks of what is told, NaN where nothing is, and how many tell."""
        ordered = values[self.order]
        known = ~np.isnan(ordered)
        n = np.bincount(self._group[known], minlength=self.begins.size)
        total = np.bincount(self._group[known], ordered[known], minlength=self.begins.size)
        return np.where(n > 0, total, np.nan)[self._by_time], n[self._by_time]

    def mean(self, values: Floats) -> Floats:
        total, n = self.sums(values)
        return total / np.maximum(n, 1)


def _each(steps: StepColumns) -> StepGrid:
    groups = _Groups(steps)
    if not groups.begins.size:
        return _empty()
    seconds = groups.most(steps.seconds, np.maximum)
    return StepGrid(
        start_ms=groups.ended_ms - seconds * 1000,
        end_ms=groups.ended_ms,
        seconds=seconds,
        low=groups.most(steps.seconds, np.minimum),
        high=seconds,
        samples_per_second=groups.sums(steps.samples)[0] / seconds,
        tokens_per_second=groups.sums(steps.tokens)[0] / seconds,
        loss=groups.mean(steps.loss),
        phases={name: groups.mean(values) for name, values in steps.phases.items()},
        is_warmup=groups.most(steps.is_warmup, np.logical_or),
        is_each=True,
    )


def _empty() -> StepGrid:
    none = np.empty(0)
    return StepGrid(none, none, none, none, none, none, none, none, {}, np.empty(0, np.bool_), is_each=True)


# Means within equal times --------------------------------------------------------------------------------------


class _Bins:
    """The rows of each column: steps are sorted by their end, so each is one slice, and what it costs is one pass over them."""

    def __init__(self, steps: StepColumns, starts: Floats, step_ms: float) -> None:
        begins = np.searchsorted(steps.ended_ms, starts)
        counts = np.diff(begins, append=len(steps))
        covering = _covering(steps, starts + step_ms / 2, begins, counts)
        self._n, self._counts, self._covering = starts.size, counts, covering
        self._filled = np.flatnonzero(counts)
        self.first = begins[self._filled]

    def spread(self, values: NDArray[Any]) -> Floats:
        """Give a column in which no step ended the value of the step that goes on through it."""
        own, out = np.full(self._n, np.nan), np.full(self._n, np.nan)
        own[self._filled] = values
        known = self._covering >= 0
        out[known] = own[self._covering[known]]
        return out

    def sums(self, values: Floats) -> tuple[Floats, Floats]:
        """Return the sum of what is told per filled column, NaN where nothing is, and how many tell."""
        told = ~np.isnan(values)
        if told.all():
            return np.add.reduceat(values, self.first), self._counts[self._filled].astype(np.float64)
        n = np.add.reduceat(told, self.first, dtype=np.float64)
        return np.where(n > 0, np.add.reduceat(np.where(told, values, 0.0), self.first), np.nan), n

    def mean(self, values: Floats) -> Floats:
        total, n = self.sums(values)
        return self.spread(total / np.maximum(n, 1))


def _binned(steps: StepColumns, n_ranks: int, start_ms: float, end_ms: float, columns: int) -> StepGrid:
    if not len(steps):
        return _empty()
    step_ms = (end_ms - start_ms) / columns
    starts: Floats = start_ms + np.arange(columns, dtype=np.float64) * step_ms
    bins = _Bins(steps, starts, step_ms)
    per_rank = np.add.reduceat(steps.seconds, bins.first) / n_ranks
    return StepGrid(
        start_ms=starts,
        end_ms=starts + step_ms,
        seconds=bins.mean(steps.seconds),
        low=bins.spread(np.minimum.reduceat(steps.seconds, bins.first)),
        high=bins.spread(np.maximum.reduceat(steps.seconds, bins.first)),
        samples_per_second=bins.spread(bins.sums(steps.samples)[0] / per_rank),
        tokens_per_second=bins.spread(bins.sums(steps.tokens)[0] / per_rank),
        loss=bins.mean(steps.loss),
        phases={name: bins.mean(values) for name, values in steps.phases.items()},
        is_warmup=bins.spread(np.logical_or.reduceat(steps.is_warmup, bins.first).astype(np.float64)) > 0,
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


def median_by_rank(steps: StepColumns, name: str = "seconds") -> dict[int, float]:
    """Return the median of a column over the training steps by rank, of those that tell it.

    Warm-up is left out where there is anything else.
    """
    train = trained(steps)
    measured = train.select(~train.is_warmup)
    shown = measured if len(measured) else train
    values: Floats = getattr(shown, name)
    told = np.flatnonzero(np.isfinite(values))
    order = told[np.argsort(shown.rank[told], kind="stable")]
    ranks, begins = np.unique(shown.rank[order], return_index=True)
    of_ranks = np.split(values[order], begins[1:]) if ranks.size else []
    return {int(rank): float(np.median(own)) for rank, own in zip(ranks, of_ranks, strict=True)}
