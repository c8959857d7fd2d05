"""Compute times of all ranks side by side, and how far each lies from the others. Called by stragglers.py. Pure numpy."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.steps.columns import Floats, StepColumns, StepKind
from training.steps.statistics import by_number

_PRESENT = 0.8  # of the ranks must tell of a step


@dataclass(frozen=True, slots=True)
class Ranks:
    """Compute seconds before communication `(n_steps, n_ranks)`, NaN where not told, of the steps that most ranks tell."""

    ranks: NDArray[np.int32]
    numbers: NDArray[np.int64]
    ended_ms: Floats
    compute: Floats


def of_ranks(steps: StepColumns) -> Ranks:
    """Return the training steps without warm-up as a matrix, in order of (attempt, number)."""
    is_counted = (steps.kind == StepKind.TRAIN) & ~steps.is_warmup
    train = steps if is_counted.all() else steps.select(is_counted)
    is_there = np.zeros(int(train.rank.max(initial=-1)) + 1, bool)
    is_there[train.rank] = True
    ranks, column = np.flatnonzero(is_there).astype(np.int32), np.cumsum(is_there) - 1
    order, begins = by_number(train)
    number = train.number[order]
    row = np.repeat(np.arange(begins.size), np.diff(begins, append=order.size))
    compute = np.full((begins.size, ranks.size), np.nan)
    compute[row, column[train.rank[order]]] = train.compute_seconds[order]
    ended = np.maximum.reduceat(train.ended_ms[order], begins) if begins.size else np.empty(0)
    compute[compute <= 0] = np.nan
    told = np.isfinite(compute).sum(axis=1) >= max(2, _PRESENT * ranks.size)
    return Ranks(ranks, number[begins][told], ended[told], compute[told])


def distances_to_others(compute: Floats) -> Floats:
    """Return the logarithm of each rank's compute time over the median of the others', `(n_steps, n_ranks)`.

    What is left of a sorted row without its element at place p is the row, one place further from p on.
    """
    logs = np.log(compute)
    order = np.argsort(logs, axis=1)  # NaN comes last
    place = np.empty_like(order)
    np.put_along_axis(place, order, np.arange(logs.shape[1])[None, :], axis=1)
    ascending = np.take_along_axis(logs, order, axis=1)
    n_others = np.isfinite(logs).sum(axis=1, keepdims=True) - 1
    lower, upper = np.maximum(n_others - 1, 0) // 2, n_others // 2
    middle = [np.take_along_axis(ascending, at + (at >= place), axis=1) for at in (lower, upper)]
    return np.asarray(np.where(n_others > 0, logs - (middle[0] + middle[1]) / 2, np.nan))


def medians(columns: Floats) -> Floats:
    """Return the median of each column `(n,)` of what is known, NaN where nothing is."""
    if np.isfinite(columns).all():
        return np.asarray(np.median(columns, axis=0))
    found = np.full(columns.shape[1], np.nan)
    some = np.isfinite(columns).any(axis=0)
    found[some] = np.nanmedian(columns[:, some], axis=0)
    return found
