"""Reading series at the resolution that fits the time range. Called by the trends; nobody outside the store knows the layout."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fleet.models import Device
from telemetry import catalog
from telemetry.catalog import Kind, Metric
from telemetry.decoding import matrix
from telemetry.store import bucketing, inputs, resolution, rolled, spans, statistics, stays
from telemetry.store.inputs import Held, Span
from telemetry.store.resolution import MINUTE_MS, Grid
from telemetry.store.rolled import Table
from telemetry.store.samples import COUNTER_REACH_MS, Floats, Growth, Samples, counter_growth, raw_with_reach
from telemetry.store.states import seconds_per_value
from telemetry.store.statistics import Field, Statistics, Whole
from telemetry.store.stays import Stay

RAW_HOST_MS = 2 * 3_600_000  # two hours of one host, one hour of two, …: above this the rollups are read
_MAX_CELLS = 1_000_000  # series times buckets that are read at most: above this coarser rollups are
_LONGEST_MS = 3_600_000  # bucket of a rollup

Column = list[float | None]
Indices = NDArray[np.int64]
Parts = Mapping[str, Mapping[str, Sequence[Stay]]]
"""By device uuid and name: of which stays of a device a series is wanted besides that of all."""


def _none() -> Floats:
    return np.empty(0)


@dataclass(frozen=True, slots=True)
class BucketedMetric:
    """Each `(n_buckets,)`; NaN where the bucket holds no sample. Gauges have mean, minimum and maximum, counters `increase`.

    `grew` is how many differences between samples an increase is the sum of, and `grew_seconds` how long these last
    together: NaN in rollups of before. States have `seconds` at each value.
    """

    mean: Floats = field(default_factory=_none)
    minimum: Floats = field(default_factory=_none)
    maximum: Floats = field(default_factory=_none)
    increase: Floats = field(default_factory=_none)
    grew: Floats = field(default_factory=_none)
    grew_seconds: Floats = field(default_factory=_none)
    seconds: dict[int, Floats] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bucketed:
    """Series on one time grid; `times_ms (n_buckets,)` are the buckets' starts."""

    start_ms: int
    end_ms: int
    step_seconds: float
    times_ms: list[int]
    series: dict[str, dict[str, BucketedMetric]]  # by device uuid, then metric
    is_raw: bool = False
    parts: dict[tuple[str, str], dict[str, BucketedMetric]] = field(
        default_factory=dict
    )  # by uuid and name, then metric

    def of(self, uuid: str, metric: str) -> BucketedMetric:
        """Return a series; one that the store does not have is NaN throughout."""
        found = self.series.get(uuid, {}).get(metric)
        if found is not None:
            return found
        gap = np.full(len(self.times_ms), np.nan)
        return BucketedMetric(gap, gap, gap, gap, gap, gap)


def column(values: Floats) -> Column:
    """Return a list with None for NaN, as pages and templates take it."""
    return [None if value != value else value for value in values.tolist()]  # noqa: PLR0124  NaN is not itself


def bucketed(
    devices: Sequence[Device], metrics: Sequence[str], start_ms: int, end_ms: int, points: int, *,
    most_raw_ms: int = RAW_HOST_MS, parts: Parts | None = None,
) -> Bucketed:  # fmt: skip
    """Return the series of all devices and metrics in at most `points` buckets of a round length; gauges in `parts`, too.

    Short ranges of few hosts are read from raw samples, as long as there are any; others from rollups. Who asks for few
    metrics of few devices may have more than `RAW_HOST_MS` of host time read from samples.
    """
    if len({device.host_id for device in devices}) <= most_fine_hosts(start_ms, end_ms, points, most_raw_ms):
        found = raw_with_reach(devices, metrics, start_ms, end_ms)
        if found:
            grid = _grid_of_samples(found, start_ms, end_ms, points)
            if start_ms - grid.first_ms > COUNTER_REACH_MS:  # the first bucket began before what was read
                found = raw_with_reach(devices, metrics, grid.first_ms, end_ms)
            block = _from_samples(found, start_ms, end_ms, grid)
            return _with_parts(block, found, grid, parts) if parts else block
    least_ms = _least_ms(len(devices) * len(metrics), end_ms - start_ms)
    step = resolution.step_ms(start_ms, end_ms, points, least_ms)
    return _from_rollups(devices, metrics, start_ms, end_ms, step, parts or {})


def most_fine_hosts(start_ms: int, end_ms: int, points: int, most_raw_ms: int = RAW_HOST_MS) -> int:
    """Return of how many hosts at most a range, in so many points, is read from the samples themselves; -1 where of none."""
    finest_ms = resolution.step_ms(start_ms, end_ms, points, 1)
    return most_raw_ms // max(1, end_ms - start_ms) if finest_ms < MINUTE_MS else -1


def longest_ms(start_ms: int, end_ms: int, points: int) -> int:
    """Return how long a bucket of the range is at most."""
    return max(resolution.step_ms(start_ms, end_ms, points, 1), _LONGEST_MS)


def _least_ms(n_series: int, span_ms: int) -> int:
    """Return the finest resolution at which so many series can be read at once, in ms."""
    fitting = (1000 * step for step in rolled.STEPS if n_series * span_ms / (1000 * step) <= _MAX_CELLS)
    return next(fitting, 1000 * rolled.STEPS[-1])


# From samples --------------------------------------------------------------------------------------------------


class _Placed(NamedTuple):
    """Where times `(m,)` lie on the grid: `inside` picks those of it, `begins` the first of each bucket in `filled`."""

    inside: slice
    begins: Indices
    filled: Indices
    sizes: Indices  # how many lie in each filled bucket


def _grid_of_samples(found: Mapping[tuple[str, str], Samples], start_ms: int, end_ms: int, points: int) -> Grid:
    interval_ms = max(series.interval_ms for series in found.values())
    step = resolution.step_ms(start_ms, end_ms, points, interval_ms)
    if step < 2 * interval_ms and not all(_fills(series, step) for series in _of_own_times(found.values())):
        # A bucket as short as this is empty now and then without anything missing.
        step = resolution.step_ms(start_ms, end_ms, points, 2 * interval_ms)
    return resolution.grid(start_ms, end_ms, step)


def _from_samples(found: Mapping[tuple[str, str], Samples], start_ms: int, end_ms: int, grid: Grid) -> Bucketed:
    block = _block(start_ms, end_ms, grid, is_raw=True)
    placed: dict[int, _Placed] = {}
    for (uuid, metric), series in found.items():
        times = id(series.times_ms)
        if times not in placed:
            placed[times] = _placed(series.times_ms, grid)
        block.series.setdefault(uuid, {})[metric] = _bucket_samples(
            catalog.BY_NAME[metric], series, grid, placed[times]
        )
    return block


def _with_parts(block: Bucketed, found: Mapping[tuple[str, str], Samples], grid: Grid, parts: Parts) -> Bucketed:
    for (uuid, metric), series in found.items():
        for name, of in parts.get(uuid, {}).items():
            own = series.taken(spans.inside(tuple((stay.from_ms, stay.until_ms) for stay in of), series.times_ms))
            placed = _placed(own.times_ms, grid)
            if placed.filled.size:
                block.parts.setdefault((uuid, name), {})[metric] = _bucket_samples(
                    catalog.BY_NAME[metric], own, grid, placed
                )
    return block


def _of_own_times(found: Iterable[Samples]) -> Iterable[Samples]:
    """Return one series of those that share their times and interval: nearly all do."""
    return {(id(series.times_ms), series.interval_ms): series for series in found}.values()


def _fills(series: Samples, step_ms: int) -> bool:
    """Tell whether no bucket between two samples that follow each other is empty."""
    is_next = np.diff(series.times_ms) <= 2 * series.interval_ms
    return bool((np.diff(series.times_ms // step_ms)[is_next] <= 1).all())


def _block(start_ms: int, end_ms: int, grid: Grid, *, is_raw: bool = False) -> Bucketed:
    return Bucketed(start_ms, end_ms, grid.step_ms / 1000, grid.times_ms.tolist(), {}, is_raw)


def _placed(times_ms: Indices, grid: Grid) -> _Placed:
    first, last = np.searchsorted(times_ms, [grid.first_ms, grid.end_ms])
    bucket = (times_ms[first:last] - grid.first_ms) // grid.step_ms
    begins = np.flatnonzero(np.diff(bucket, prepend=-1))
    return _Placed(slice(first, last), begins, bucket[begins], np.diff(begins, append=bucket.size))


def _bucket_samples(metric: Metric, found: Samples, grid: Grid, placed: _Placed) -> BucketedMetric:
    if metric.kind is Kind.COUNTER:
        return _summed(counter_growth(found), grid, metric.resolution)
    if metric.kind is Kind.STATE:
        return BucketedMetric(seconds=seconds_per_value(found, *grid, bucketing.HOLD_INTERVALS))
    values = found.values[placed.inside]

    def on_grid(of_bucket: Floats) -> Floats:
        every = np.full(grid.n, np.nan)
        every[placed.filled] = of_bucket
        return every

    if placed.filled.size == values.size:  # one sample in each: it is all three
        mean = on_grid(values)
        return BucketedMetric(mean=mean, minimum=mean, maximum=mean)
    return BucketedMetric(
        mean=on_grid(np.add.reduceat(values, placed.begins) / placed.sizes),
        minimum=on_grid(np.minimum.reduceat(values, placed.begins)),
        maximum=on_grid(np.maximum.reduceat(values, placed.begins)),
    )


def _summed(found: Growth, grid: Grid, resolution_: float) -> BucketedMetric:
    bucket = (found.times_ms - grid.first_ms) // grid.step_ms
    inside = (bucket >= 0) & (bucket < grid.n)
    sums = np.bincount(bucket[inside], found.growths[inside], minlength=grid.n)[: grid.n]
    seconds = np.bincount(bucket[inside], found.lasted_ms[inside] / 1000, minlength=grid.n)[: grid.n]
    grew = np.bincount(bucket[inside], minlength=grid.n)[: grid.n]
    whole = np.rint(sums / resolution_).astype(np.int64)  # a counter's growth is whole steps: the rest is arithmetic's
    increase = np.where(grew > 0, matrix.in_base_units(whole, resolution_), np.nan)
    known = np.where(grew > 0, grew, np.nan)
    return BucketedMetric(increase=increase, grew=known, grew_seconds=np.where(grew > 0, seconds, np.nan))


# From rollups --------------------------------------------------------------------------------------------------


def _from_rollups(
    devices: Sequence[Device], metrics: Sequence[str], start_ms: int, end_ms: int, step_ms: int, parts: Parts
) -> Bucketed:
    held = stays.by_host(devices, start_ms - max(step_ms, _LONGEST_MS), end_ms)
    hosts = held.keys() | {device.host_id for device in devices}
    numbers = {catalog.BY_NAME[name].number for name in metrics}

    def read(level: int, from_ms: int, until_ms: int) -> dict[int, Table]:
        return rolled.of_hosts(hosts, level, from_ms, until_ms, numbers)

    def read_samples(from_ms: int, until_ms: int) -> dict[int, Table]:
        return dict(_minutes_of_samples(held, numbers, from_ms, until_ms))

    found = resolution.layered(start_ms, end_ms, step_ms, read, read_samples)
    block = _block(start_ms, end_ms, found.grid)
    uuids = {device.pk: device.uuid for device in devices}
    tables = {host: resolution.on_one_axis(layers)[0] for host, layers in found.tables.items()}
    moved = set().union(*(each.moved for each in held.values())) if tables else set()
    for table in tables.values():
        for metric, owner, series in _on_grid(table, found.grid, metrics):
            if owner in uuids and owner not in moved:
                block.series.setdefault(uuids[owner], {})[metric] = series
    for pk in moved:
        for metric, _, series in _on_grid(_of_moved(pk, list(tables.values())), found.grid, metrics):
            block.series.setdefault(uuids[pk], {})[metric] = series
        for name, of in parts.get(uuids[pk], {}).items():
            of_hosts = [tables[host] for host in {stay.host_id for stay in of} & tables.keys()]
            for metric, _, series in _on_grid(_of_moved(pk, of_hosts), found.grid, metrics) if of_hosts else ():
                block.parts.setdefault((uuids[pk], name), {})[metric] = series
    return block


def _on_grid(table: Table, grid: Grid, metrics: Sequence[str]) -> Iterator[tuple[str, int, BucketedMetric]]:
    """Yield each series of a table by metric and device id."""
    made = rolled.regrouped(table, *grid)
    for metric in metrics:
        yield from ((metric, owner, series) for owner, series in _series(metric, made))


def _of_moved(device: int, tables: Sequence[Table]) -> Table:
    """Return what several hosts have of a device as one table; where it moved within a bucket this has a part of each."""
    found: list[Table] = []
    for table in tables:
        rows = np.flatnonzero(table.keys.owners == device)
        if not rows.size and (found or table is not tables[-1]):
            continue
        keys = statistics.interned(*np.ascontiguousarray(table.keys.table[rows].T))
        found.append(table._replace(keys=keys, values=table.values[rows]))
    joined, _ = resolution.on_one_axis(found)
    order = np.argsort(joined.starts_ms, kind="stable")
    return joined._replace(starts_ms=joined.starts_ms[order], values=joined.values[:, order])


def _minutes_of_samples(
    held: Held, numbers: Collection[int], from_ms: int, until_ms: int
) -> Iterator[tuple[int, Table]]:
    """Yield the newest minutes by host, which no rollup holds yet; of few hosts, and of the last of a long time."""
    if not held:
        return
    first_ms = max(from_ms, until_ms - RAW_HOST_MS // len(held)) // MINUTE_MS * MINUTE_MS
    if first_ms < from_ms or len(held) * MINUTE_MS > RAW_HOST_MS:
        first_ms += MINUTE_MS
    span = Span(first_ms, -(-(until_ms - first_ms) // MINUTE_MS))
    if span.n <= 0:
        return
    for host, found in inputs.read(held, span, inputs.REACH_MS).items():
        made = inputs.statistics_of(host, found, held[host], span, numbers)
        if made is not None:
            yield host, Table(made.keys, MINUTE_MS, made.starts_ms, made.values)


def _series(metric: str, made: Statistics) -> Iterator[tuple[int, BucketedMetric]]:
    """Yield each device's series of a metric by device id, in base units."""
    row = catalog.BY_NAME[metric]
    of_metric = np.flatnonzero(made.keys.numbers == row.number)
    if not of_metric.size:
        return
    fields, owners = made.keys.fields[of_metric], made.keys.owners[of_metric]
    if row.kind is Kind.STATE:  # one holds into a minute without a sample: not all of them have a COUNT
        yield from ((owner, _state(made, row.number, owner)) for owner in np.unique(owners).tolist())
        return
    values = {Field(f): made.values[of_metric[fields == f]] for f in np.unique(fields).tolist()}
    counts = values[Field.COUNT]
    series = owners[fields == Field.COUNT].tolist()
    if row.kind is Kind.COUNTER:
        increase = _known(values[Field.INCREASE], values[Field.GREW] > 0, row.resolution)
        grew = np.where(values[Field.GREW] > 0, values[Field.GREW], np.nan)
        lasted = np.zeros_like(counts)
        if Field.GREW_MILLISECONDS in values:  # rollups of before do not have it
            of = owners[fields == Field.GREW_MILLISECONDS]
            lasted[np.searchsorted(series, of)] = values[Field.GREW_MILLISECONDS]
        seconds = np.where(lasted > 0, lasted / 1000, np.nan)
        yield from zip(series, map(_grown, increase, grew, seconds), strict=True)
    else:
        with np.errstate(invalid="ignore"):
            mean = _known(values[Field.SUM], counts > 0, row.resolution) / np.maximum(counts, 1)
        low, high = (_known(values[f], counts > 0, row.resolution) for f in (Field.MINIMUM, Field.MAXIMUM))
        yield from zip(series, map(BucketedMetric, mean, low, high), strict=True)


def _grown(increase: Floats, grew: Floats, seconds: Floats) -> BucketedMetric:
    return BucketedMetric(increase=increase, grew=grew, grew_seconds=seconds)


def _known(steps: Whole, known: NDArray[np.bool_], resolution_: float) -> Floats:
    return np.where(known, matrix.in_base_units(steps, resolution_), np.nan)


def _state(made: Statistics, number: int, owner: int) -> BucketedMetric:
    keys = made.keys
    rows = np.flatnonzero((keys.numbers == number) & (keys.owners == owner) & (keys.fields == Field.MILLISECONDS))
    known = made.values[rows].any(axis=0)
    seconds = {int(keys.arguments[row]): np.where(known, made.values[row] / 1000, np.nan) for row in rows.tolist()}
    return BucketedMetric(seconds=seconds)
