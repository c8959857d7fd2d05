"""Reading one metric across the devices of groups: from the groups' rollups, or from series of devices. Called by the trends."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from telemetry import catalog
from telemetry.decoding import matrix
from telemetry.store import resolution, rolled, statistics
from telemetry.store.resolution import MINUTE_MS, Grid
from telemetry.store.rolled import Table
from telemetry.store.samples import Floats
from telemetry.store.statistics import Field, Whole

YOUNG_MS = 3 * MINUTE_MS  # a minute of a group stands at most two minutes after it is over, whoever is on the way
_FIELDS = (Field.COUNT, Field.SUM, Field.P10, Field.P50, Field.P90)  # what an Across is made of


@dataclass(frozen=True, slots=True)
class Across:
    """One metric over the devices of a group, each `(n_buckets,)`; NaN in a bucket without any device. `n` counts them."""

    n: Floats
    mean: Floats
    p10: Floats
    p50: Floats
    p90: Floats
    total: Floats


def of_groups(
    groups: Mapping[int, str], metric: str, start_ms: int, end_ms: int, points: int, *, now_ms: int
) -> tuple[Grid, dict[str, Across]]:
    """Return the grid and what each group has on it, by the name that it is given; a group without anything is left out.

    Over several buckets of a rollup a percentile is their mean, and so are a sum and how many devices there were.
    """
    number = catalog.BY_NAME[metric].number

    def read(level: int, from_ms: int, until_ms: int) -> dict[int, Table]:
        return rolled.of_groups(groups, level, from_ms, until_ms, (number,), _FIELDS)

    step = resolution.step_ms(start_ms, end_ms, points, MINUTE_MS)
    found = resolution.layered(start_ms, end_ms, step, read, None)
    made = {}
    for group, layers in found.tables.items():
        table, lengths = resolution.on_one_axis(layers)
        rows = table.rows(number, Field.COUNT)
        if rows.size and table.values[rows].any():
            made[groups[group]] = _on_grid(table, lengths, number, found.grid, now_ms)
    return found.grid, made


def _on_grid(table: Table, lengths: Whole, number: int, grid: Grid, now_ms: int) -> Across:
    bucket = (table.starts_ms - grid.first_ms) // grid.step_ms
    counts = table.values[table.rows(number, Field.COUNT)[0]]
    kept = (counts > 0) & (bucket >= 0) & (bucket < grid.n)
    kept[unsettled_from(counts, table.starts_ms, now_ms) :] = False
    bucket, weights = bucket[kept], lengths[kept].astype(np.float64)
    resolution_, parts = catalog.BY_NUMBER[number].resolution, statistics.parts_of_step(number)

    def summed(values: Floats | Whole) -> Floats:
        return np.bincount(bucket, values * weights, minlength=grid.n).astype(np.float64, copy=False)

    def of(field: Field) -> Floats:
        return summed(matrix.in_base_units(table.values[table.rows(number, field)[0], kept], resolution_) / parts)

    whole, total, n = summed(np.ones(bucket.size)), of(Field.SUM), summed(counts[kept])
    return Across(
        n=_over(n, whole), mean=_over(total, n), p10=_over(of(Field.P10), whole), p50=_over(of(Field.P50), whole),
        p90=_over(of(Field.P90), whole), total=_over(total, whole),
    )  # fmt: skip


def _over(values: Floats, whole: Floats) -> Floats:
    found: Floats = np.divide(values, whole, out=np.full(whole.size, np.nan), where=whole > 0)
    return found


def of_series(times_ms: Sequence[int], rows: Sequence[Floats], *, now_ms: int) -> Across:
    """Return how many, mean, p10, p50, p90 and sum across series, per bucket; a bucket without any is a gap."""
    empty = np.full(len(times_ms), np.nan)
    if not rows:
        return Across(empty, empty, empty, empty, empty, empty)
    table = np.stack(rows)
    counts = (~np.isnan(table)).sum(axis=0)
    table[:, unsettled_from(counts, np.array(times_ms, np.int64), now_ms) :] = np.nan
    gaps = np.isnan(table).all(axis=0)
    mean, p10, p50, p90, total = (empty.copy() for _ in range(5))
    if not gaps.all():
        known = table[:, ~gaps]
        mean[~gaps] = np.nanmean(known, axis=0)
        p10[~gaps], p50[~gaps], p90[~gaps] = np.nanpercentile(known, [10, 50, 90], axis=0)
        total[~gaps] = np.nansum(known, axis=0)
    return Across(np.where(gaps, np.nan, (~np.isnan(table)).sum(axis=0)), mean, p10, p50, p90, total)


def unsettled_from(counts: NDArray[np.int64], starts_ms: Whole, now_ms: int) -> int:
    """Return from where on buckets are left out: the newest two while they hold fewer devices than the one before.

    The rest is on its way; without this every sum would fall at the right edge of its chart. In a bucket that began longer ago
    nothing is awaited: who does not stand in it was lost.
    """
    newest: Collection[int] = np.flatnonzero(counts)[-3:].tolist()
    falls = (later for earlier, later in pairwise(newest) if counts[later] < counts[earlier])
    return next((at for at in falls if starts_ms[at] > now_ms - YOUNG_MS), counts.size)
