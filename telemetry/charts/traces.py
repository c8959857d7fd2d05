"""The values that fill the figures: arrays from series, bands and stacks as outlines, gaps as shapes. Called by the views.

Times are UTC milliseconds, values in base units; None is a gap. The order of traces is that of telemetry/charts/figures.py.
A trace without an `x` of its own stands on the answer's `x`, the time grid that all lines share. Many long lines go packed.
"""

from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from telemetry.store import read
from telemetry.store.samples import Floats

_FIGURES, _LEAST = 6, 1e-9  # what is smaller is drawn as 0
JOURNEY_MS = 20_000  # from the sample to the page: collected, sent, stored
GROUP_JOURNEY_MS = JOURNEY_MS + 180_000  # of a group's minute: it is over, and two minutes later made at the latest

Column = Sequence[float | None]
Trace = dict[str, list[Any]]
Packed = dict[str, Any]


def line(values: Column) -> Trace:
    return {"y": _shortened(values)}


def band(times_ms: Sequence[int], low: Column, high: Column) -> Trace:
    """Return the outline between two lines, one closed outline for each run without a gap."""
    x: list[int | None] = []
    y: list[float | None] = []
    for run in _runs([a is not None and b is not None for a, b in zip(low, high, strict=True)]):
        if x:
            x.append(None)
            y.append(None)
        x += [times_ms[i] for i in run] + [times_ms[i] for i in reversed(run)]
        y += _shortened([high[i] for i in run]) + _shortened([low[i] for i in reversed(run)])
    return {"x": x, "y": y}


def mean_with_band(times_ms: Sequence[int], mean: Column, low: Column, high: Column) -> list[Trace]:
    return [band(times_ms, low, high), line(mean)]


def across_devices(times_ms: Sequence[int], mean: Column, p10: Column, p50: Column, p90: Column) -> list[Trace]:
    return [*mean_with_band(times_ms, mean, p10, p90), line(p50)]


def stacked(times_ms: Sequence[int], columns: Sequence[Column]) -> list[Trace]:
    """Return an area and its upper edge per group, each on top of those before it; `customdata` is a group's own value.

    Where one group has a gap, the others close up: a stack shows what is known.
    """
    floor = [0.0] * len(times_ms)
    traces: list[Trace] = []
    for column in columns:
        low = [None if value is None else base for value, base in zip(column, floor, strict=True)]
        high = [None if value is None else base + value for value, base in zip(column, floor, strict=True)]
        traces += [band(times_ms, low, high), line(high) | {"customdata": line(column)["y"]}]
        floor = [base + (value or 0.0) for value, base in zip(column, floor, strict=True)]
    return traces


def peers(columns: Sequence[Floats], chosen: Floats) -> list[Packed]:
    return [packed(column) for column in [*columns, chosen]]


def packed(values: Floats) -> Packed:
    """Return a line to six figures of its greatest value, as whole `step`s: each value as its `rises` over the last known one.

    So it is a third as long as text and read in a fraction of the time (static/js/unpack.js). None is a gap.
    """
    known = np.flatnonzero(~np.isnan(values))
    if not known.size:
        return {"step": 1.0, "rises": [None] * len(values)}
    power = int(np.floor(np.log10(max(np.abs(values[known]).max(), _LEAST)))) - _FIGURES + 1
    whole = np.rint(values[known] * 10.0**-power).astype(np.int64)
    unit = int(np.gcd.reduce(whole)) or 1
    rises: list[int | None] = np.diff(whole // unit, prepend=0).tolist()
    if known.size < len(values):
        every: NDArray[np.object_] = np.full(len(values), None)
        every[known] = rises
        rises = every.tolist()
    return {"step": unit * 10.0**power if power >= 0 else unit / 10.0**-power, "rises": rises}


def means(columns: Sequence[Column] | Sequence[Floats]) -> Floats:
    """Return the mean across columns per bucket of those that have a value; NaN where none has."""
    known, total = _counted(columns)
    return np.where(known > 0, total / np.maximum(known, 1), np.nan)


def sums(columns: Sequence[Column]) -> Floats:
    """Return the sum across columns per bucket of those that have a value; NaN where none has."""
    known, total = _counted(columns)
    return np.where(known > 0, total, np.nan)


def _counted(columns: Sequence[Column] | Sequence[Floats]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return how many columns have a value, per bucket, and their sum."""
    table = np.array(columns, np.float64).reshape(len(columns), -1 if columns else 0)  # None becomes NaN
    return (~np.isnan(table)).sum(axis=0), np.nansum(table, axis=0)


def gaps(
    times_ms: Sequence[int], columns: Sequence[Column] | Sequence[Floats], journey_ms: int = JOURNEY_MS
) -> dict[str, list[Any]]:
    """Return grey spans where no column has a value, from the last known bucket to the next one.

    What is younger than its journey may still be on its way: it is no gap.
    """
    on_its_way = max(2, ceil(journey_ms / (times_ms[1] - times_ms[0]))) if len(times_ms) > 1 else 1
    table: NDArray[np.float64] = np.array(columns, np.float64).reshape(len(columns), len(times_ms))
    is_empty = np.all(np.isnan(table), axis=0)[: len(times_ms) - on_its_way]
    spans = [(times_ms[max(0, run[0] - 1)], times_ms[run[-1] + 1]) for run in _runs(is_empty)]
    total = (times_ms[-1] - times_ms[0]) or 1
    shape = {"type": "rect", "layer": "below", "yref": "paper", "y0": 0, "y1": 1, "line": {"width": 0}}
    # At the foot: limits and marks have their words at the top.
    words = {"yref": "paper", "y": 0, "yanchor": "bottom", "showarrow": False, "text": "no data"}
    font = {"size": 10.5, "color": "token:text-3"}
    return {
        "shapes": [shape | {"x0": start, "x1": end, "fillcolor": "token:surface-3"} for start, end in spans],
        "annotations": [
            words | {"x": (start + end) / 2, "font": font} for start, end in spans if (end - start) / total > 0.12
        ],
    }


def _shortened(values: Column) -> list[float | None]:
    """Return them to six figures: more than a chart shows, and half of what doubles take to write."""
    exact = np.array(values, np.float64)  # None becomes NaN
    size = np.abs(exact)
    digits = _FIGURES - 1 - np.floor(np.log10(np.where(size > 0, size, 1.0)))
    scale = 10.0 ** np.abs(digits)  # a power of ten above 1 is exact, one below is not
    with np.errstate(over="ignore"):  # of the two, the one that is not taken
        short = np.where(digits >= 0, np.rint(exact * scale) / scale, np.rint(exact / scale) * scale)
    return read.column(short)


def _runs(flags: Sequence[bool] | NDArray[np.bool_]) -> list[list[int]]:
    """Return the positions of each run of true flags."""
    found = np.flatnonzero(flags)
    if not found.size:
        return []
    return [run.tolist() for run in np.split(found, np.flatnonzero(np.diff(found) > 1) + 1)]
