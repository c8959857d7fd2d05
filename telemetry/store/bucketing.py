"""Samples of one host → statistics over buckets. Pure: equal samples make equal statistics, in whatever order they came.

Called by the rollups, and by whoever checks a stored rollup against the samples that it was made of.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from telemetry import catalog
from telemetry.catalog import Kind
from telemetry.store import bucketed_energy, statistics
from telemetry.store.buckets import Grid, Rows
from telemetry.store.gather import Gathered, Indices
from telemetry.store.joules import GAP_INTERVALS
from telemetry.store.samples import milliseconds, reach_ms, reaches_ms
from telemetry.store.statistics import Field, Statistics, Whole

HOLD_INTERVALS = 2  # so many sampling intervals a state holds at most, until the next sample says the same or another

Flags = NDArray[np.bool_]


class _Series(NamedTuple):
    """Series of one kind: `numbers` and `owners (s,)`, `steps` and `present (s, n_ticks)`, ticks in order of clock and time."""

    numbers: Indices
    owners: Indices
    steps: Whole
    present: Flags

    def rows(self, field: Field, values: Whole, argument: int = 0) -> Rows:
        columns = (self.numbers, np.full_like(self.numbers, field), np.full_like(self.numbers, argument), self.owners)
        return Rows(np.stack(columns, axis=1), values)

    def taken(self, rows: Indices) -> "_Series":
        return _Series(self.numbers[rows], self.owners[rows], self.steps[rows], self.present[rows])


def of_samples(
    found: Gathered, ids: Mapping[str, int], first_ms: int, step_ms: int, n: int, *, with_energy: bool = True
) -> Statistics:
    """Return the statistics of `n` buckets of the devices in `ids` (by uuid).

    `found` reaches beyond both ends, as far as `reach` says; what has no sample in any bucket, and nothing that reaches into
    one, is left out.
    """
    grid = Grid(first_ms, step_ms, n)
    rows = [*_kinds(found, ids, grid), *(bucketed_energy.of_devices(found, ids, grid) if with_energy else ())]
    keys = np.concatenate([np.empty((0, 4), np.int64), *(each.keys for each in rows)])
    values = np.concatenate([np.empty((0, n), np.int64), *(each.values for each in rows)])
    return without_empty(statistics.ordered(keys, values, first_ms, step_ms))


def reach(longest_interval_ms: int) -> tuple[int, int]:
    """Return how far before and after its ends a bucket depends on samples, in ms, at this sampling interval."""
    gap_ms = round(GAP_INTERVALS * longest_interval_ms)
    return max(reach_ms(longest_interval_ms), gap_ms), gap_ms


def minutes_changed(start_ms: int, end_ms: int, interval_ms: int, *, is_late: bool) -> Iterator[int]:
    """Yield the beginnings of the minutes that a batch changes, in ms: all that its samples reach into.

    Energy before its first sample comes with it; a state holds beyond its last one. Where later samples are there already
    (`is_late`), so does the growth of their counters.
    """
    forward, backward = reach(interval_ms)
    beyond = forward if is_late else HOLD_INTERVALS * interval_ms
    for minute in range((start_ms - backward) // 60_000, (end_ms + beyond) // 60_000 + 1):
        yield minute * 60_000


def without_empty(found: Statistics) -> Statistics:
    """Leave out series that were read outside of the buckets only."""
    keys = found.keys
    filled: Flags = np.asarray(found.values.any(axis=1))
    kept = np.where(keys.counts >= 0, filled[keys.counts], filled)
    is_state = np.isin(keys.numbers, keys.numbers[filled & (keys.fields == Field.MILLISECONDS)])
    kept |= is_state & filled
    if kept.all():
        return found
    return statistics.ordered(keys.table[kept], found.values[kept], found.start_ms, found.step_ms)


def _kinds(found: Gathered, ids: Mapping[str, int], grid: Grid) -> Iterator[Rows]:
    by_kind: dict[Kind, list[int]] = {kind: [] for kind in Kind}
    for row, (uuid, number) in enumerate(found.series):
        if uuid in ids and number in catalog.BY_NUMBER:
            by_kind[catalog.BY_NUMBER[number].kind].append(row)
    for kind, rows in by_kind.items():
        if not rows:
            continue
        at = np.array(rows)
        numbers = np.array([found.series[row][1] for row in rows], np.int64)
        owners = np.array([ids[found.series[row][0]] for row in rows], np.int64)
        series = _Series(numbers, owners, found.steps[at], found.present[at])
        yield from _MAKERS[kind](series, found, grid)


# Levels --------------------------------------------------------------------------------------------------------


class _InTime(NamedTuple):
    """The ticks that lie in buckets, in order of time: `order (m,)`; filled buckets `(f,)`, and where each begins in `order`."""

    order: Indices
    filled: Indices
    begins: Indices


def _in_time(found: Gathered, grid: Grid) -> _InTime:
    order = _by_time(found)
    buckets = grid.buckets(found.times_ms[order])
    inside = (buckets >= 0) & (buckets < grid.n)
    order, buckets = order[inside], buckets[inside]
    begins = np.flatnonzero(np.diff(buckets, prepend=-1))
    return _InTime(order, buckets[begins], begins)


def _by_time(found: Gathered) -> Indices:
    """At one time on two clocks the clock's name decides: the order in which batches came does not."""
    ranks = np.empty(len(found.names), np.int64)
    ranks[sorted(range(len(found.names)), key=found.names.__getitem__)] = np.arange(len(found.names))
    return np.lexsort((ranks[found.clocks], found.times_ms))


def _spread(values: Whole, ticks: _InTime, n: int) -> Whole:
    spread = np.zeros((values.shape[0], n), np.int64)
    spread[:, ticks.filled] = values
    return spread


def _counts_and_last(series: _Series, ticks: _InTime, n: int) -> tuple[Whole, Whole]:
    steps, present = series.steps[:, ticks.order], series.present[:, ticks.order]
    counts = _spread(np.add.reduceat(present, ticks.begins, axis=1, dtype=np.int64), ticks, n)
    at = np.maximum.reduceat(np.where(present, np.arange(ticks.order.size), -1), ticks.begins, axis=1)
    last = np.where(at >= 0, np.take_along_axis(steps, np.maximum(at, 0), axis=1), 0)
    return counts, _spread(last, ticks, n)


def _gauges(series: _Series, found: Gathered, grid: Grid) -> Iterator[Rows]:
    ticks = _in_time(found, grid)
    if not ticks.order.size:
        return
    counts, last = _counts_and_last(series, ticks, grid.n)
    steps, present = series.steps[:, ticks.order], series.present[:, ticks.order]
    known = counts > 0
    limits, whole = np.iinfo(np.int64), bool(present.all())
    low = steps if whole else np.where(present, steps, limits.max)
    high = steps if whole else np.where(present, steps, limits.min)
    yield series.rows(Field.COUNT, counts)
    yield series.rows(
        Field.SUM, _spread(np.add.reduceat(np.where(present, steps, 0), ticks.begins, axis=1), ticks, grid.n)
    )
    for field, lowest in ((Field.MINIMUM, np.minimum.reduceat(low, ticks.begins, axis=1)),
                          (Field.MAXIMUM, np.maximum.reduceat(high, ticks.begins, axis=1))):  # fmt: skip
        yield series.rows(field, np.where(known, _spread(lowest, ticks, grid.n), 0))
    yield series.rows(Field.LAST, last)


# Counters ------------------------------------------------------------------------------------------------------


def _counters(series: _Series, found: Gathered, grid: Grid) -> Iterator[Rows]:
    ticks = _in_time(found, grid)
    if not ticks.order.size:
        return
    counts, last = _counts_and_last(series, ticks, grid.n)
    growth, lasted, counted = _growth(series, found)
    yield series.rows(Field.COUNT, counts)
    yield series.rows(Field.LAST, last)
    for field, values in ((Field.INCREASE, growth), (Field.GREW, counted.astype(np.int64)),
                          (Field.GREW_MILLISECONDS, lasted)):  # fmt: skip
        summed = np.add.reduceat(values[:, ticks.order], ticks.begins, axis=1)
        yield series.rows(field, _spread(summed, ticks, grid.n))


def _growth(series: _Series, found: Gathered) -> tuple[Whole, Whole, Flags]:
    """Return how much each sample grew by, in how many ms, and whether that counts, all `(s, n_ticks)`.

    See samples.counter_growth.
    """
    before = _sample_before(series.present, found.clocks)
    at = np.maximum(before, 0)
    reaches = reaches_ms(milliseconds(found.seconds))
    longest = np.maximum(reaches, reaches[at])
    lasted = found.times_ms - found.times_ms[at]
    counted = series.present & (before >= 0) & (lasted <= longest)
    growth = series.steps - np.take_along_axis(series.steps, at, axis=1)
    return np.where(counted, np.maximum(growth, 0), 0), np.where(counted, lasted, 0), counted


def _sample_before(present: Flags, clocks: Indices) -> Indices:
    """Return the tick of each row's sample before, on the same clock, `(s, n_ticks)`; -1 where there is none."""
    n = clocks.size
    ticks = np.arange(n)
    newest = np.maximum.accumulate(np.where(present, ticks, -1), axis=1)
    before = np.full_like(newest, -1)
    before[:, 1:] = newest[:, :-1]
    begins = np.maximum.accumulate(np.where(np.diff(clocks, prepend=-1) != 0, ticks, 0))
    return np.where(before >= begins, before, -1)


# States --------------------------------------------------------------------------------------------------------


def _states(series: _Series, found: Gathered, grid: Grid) -> Iterator[Rows]:
    ticks = _in_time(found, grid)
    if ticks.order.size:
        counts, last = _counts_and_last(series, ticks, grid.n)
        yield series.rows(Field.COUNT, counts)
        yield series.rows(Field.LAST, last)
    values = np.where(series.present, series.steps, 0)
    first = np.take_along_axis(series.steps, np.argmax(series.present, axis=1)[:, None], axis=1)
    is_constant = (~series.present | (values == first)).all(axis=1)
    held = _held(series, found)
    for value in np.unique(first[is_constant]).tolist():
        rows = np.flatnonzero(is_constant & (first[:, 0] == value))
        some = series.taken(rows)
        yield some.rows(Field.MILLISECONDS, _milliseconds(some.present, held[rows], found.times_ms, grid), value)
    for row in np.flatnonzero(~is_constant):
        one = series.taken(np.array([row]))
        for value in np.unique(one.steps[one.present]).tolist():
            at = one.present & (one.steps == value)
            yield one.rows(Field.MILLISECONDS, _milliseconds(at, held[[row]], found.times_ms, grid), value)


def _held(series: _Series, found: Gathered) -> Indices:
    """Return until when each sample holds, `(s, n_ticks)` ms: until the next on whatever clock, at most HOLD_INTERVALS.

    What an agent says first after its start ends what it said last before: in no time a device is in two states. So has
    states.seconds_per_value.
    """
    order, longest = _by_time(found), found.times_ms + HOLD_INTERVALS * milliseconds(found.seconds)
    at = np.where(series.present[:, order], found.times_ms[order], np.iinfo(np.int64).max)
    later = np.full_like(at, np.iinfo(np.int64).max)
    later[:, :-1] = np.minimum.accumulate(at[:, :0:-1], axis=1)[:, ::-1]
    until: Indices = np.empty_like(later)
    until[:, order] = later
    np.minimum(until, longest, out=until)
    return until


def _milliseconds(at: Flags, until_ms: Indices, times_ms: Indices, grid: Grid) -> Whole:
    """Return how long the chosen samples hold in each bucket, `(s, n)`: one may reach through several."""
    rows, ticks = np.nonzero(at)
    begin, end = times_ms[ticks], until_ms[rows, ticks]
    summed = np.zeros(at.shape[0] * grid.n)
    bucket = np.maximum(grid.buckets(begin), 0)
    while rows.size:
        edge = grid.first_ms + bucket * grid.step_ms
        inside = np.minimum(end, edge + grid.step_ms) - np.maximum(begin, edge)
        goes_on = (inside > 0) & (bucket < grid.n)
        summed += np.bincount((rows * grid.n + bucket)[goes_on], inside[goes_on], minlength=summed.size)
        goes_on &= end > edge + grid.step_ms
        rows, begin, end, bucket = rows[goes_on], begin[goes_on], end[goes_on], bucket[goes_on] + 1
    return np.rint(summed).astype(np.int64).reshape(-1, grid.n)


_MAKERS = {Kind.GAUGE: _gauges, Kind.COUNTER: _counters, Kind.STATE: _states}
