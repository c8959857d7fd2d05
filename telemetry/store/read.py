"""Reading the store: newest readings, and series at the resolution that fits the time range.

Called by the queries and the energy accounts; nobody outside the store knows the layout.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil
from typing import Any

import numpy as np
from django.db.models import QuerySet
from numpy.typing import NDArray

from fleet.models import Device, Host
from telemetry import catalog, wire
from telemetry.catalog import Kind
from telemetry.models import Chunk, LatestState, MinuteRollup

MINUTE_MS = 60_000
_RAW_HOST_MS = 2 * 3_600_000  # two hours of one host, one hour of two, …: above this the minute rollups are read
_COUNTER_REACH_MS = 30_000  # a counter's growth across a longer silence is not counted: sums never bridge a gap
_GAP_INTERVALS = 2.5  # unless it is sampled so slowly that this is no silence
_STEPS_MS = [s * 1000 for s in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 43_200, 86_400)]

Floats = NDArray[np.float64]
Column = list[float | None]


@dataclass(frozen=True, slots=True)
class LatestDevice:
    """One device at `at_ms`; `read_ms` is when it last gave any value, None if it never did."""

    at_ms: int
    read_ms: int | None
    values: dict[str, float]
    absent: dict[str, str]


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest readings of one host, and who used its devices when that was last looked at."""

    at_ms: int
    devices: dict[str, LatestDevice]
    processes: dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Samples:
    """Readings of one metric of one device: `times_ms (n,) int64` ascending, `values (n,) float64` in base units.

    `clocks (n,)` numbers the clock that each time was read on: an agent's start, and every step of its wall clock, begins
    another. `interval_ms` is the longest sampling interval among them.
    """

    times_ms: NDArray[np.int64]
    values: Floats
    clocks: NDArray[np.int64]
    interval_ms: int

    @classmethod
    def none(cls) -> "Samples":
        return cls(np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64), 1000)


@dataclass(frozen=True, slots=True)
class BucketedMetric:
    """Each `(n_buckets,)`; None where the bucket holds no sample. Counters have `increase`, others mean, min and max."""

    mean: Column = field(default_factory=list)
    minimum: Column = field(default_factory=list)
    maximum: Column = field(default_factory=list)
    increase: Column = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Bucketed:
    """Series on one time grid; `times_ms (n_buckets,)` are the buckets' starts."""

    start_ms: int
    end_ms: int
    step_seconds: float
    times_ms: list[int]
    series: dict[str, dict[str, BucketedMetric]]  # by device uuid, then metric

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return (start of the first bucket, step, number of buckets), times in milliseconds."""
        return self.times_ms[0], round(self.step_seconds * 1000), len(self.times_ms)


@dataclass(frozen=True, slots=True)
class Across:
    """One metric over the devices of a group, each `(n_buckets,)`."""

    mean: Column
    p10: Column
    p90: Column
    total: Column


def latest(hosts: Sequence[Host]) -> dict[int, Latest]:
    """Return the newest readings by host id, in one query."""
    rows = LatestState.objects.filter(host__in=hosts) if len(hosts) < 100 else LatestState.objects.all()
    return {
        row.host_id: Latest(
            row.at_ms,
            {uuid: LatestDevice(d["at_ms"], d["read_ms"], d["values"], d["absent"]) for uuid, d in row.devices.items()},
            row.processes,
        )
        for row in rows
    }


def raw(
    devices: Sequence[Device], metrics: Sequence[str], start_ms: int, end_ms: int
) -> dict[tuple[str, str], Samples]:
    """Return the stored samples with start ≤ time < end by (device uuid, metric); a series without any is left out."""
    wanted = {device.uuid for device in devices}
    gathered: dict[tuple[str, str], _Gathered] = {}
    clocks: dict[tuple[str, int], int] = {}
    for body in _chunks(devices, start_ms, end_ms).values_list("body", flat=True).iterator(chunk_size=500):
        batch = wire.unpack(bytes(body), metrics)
        clock = clocks.setdefault((batch.epoch, batch.segment), len(clocks))
        for metric, columns in batch.columns.items():
            for device, column in zip(batch.devices, columns, strict=True):
                if device.uuid in wanted:
                    series = gathered.setdefault((device.uuid, metric), _Gathered())
                    series.interval_ms = max(series.interval_ms, round(batch.sample_seconds * 1000))
                    series.rows += [
                        (at, value, clock)
                        for at, value in zip(batch.times_ms, column, strict=True)
                        if value is not None and start_ms <= at < end_ms
                    ]
    return {key: series.samples() for key, series in gathered.items() if series.rows}


def raw_with_reach(
    devices: Sequence[Device], metrics: Sequence[str], start_ms: int, end_ms: int
) -> dict[tuple[str, str], Samples]:
    """Return the same, and from before the start what the growth of counters begins from."""
    found = raw(devices, metrics, start_ms - _COUNTER_REACH_MS, end_ms)
    counters = [s for (_, metric), s in found.items() if catalog.BY_NAME[metric].kind is Kind.COUNTER]
    longest_ms = max((reach_ms(series.interval_ms) for series in counters), default=0)
    return raw(devices, metrics, start_ms - longest_ms, end_ms) if longest_ms > _COUNTER_REACH_MS else found


def reach_ms(interval_ms: int) -> int:
    """Return the longest time across which the growth of a counter counts that is sampled at this interval."""
    return max(_COUNTER_REACH_MS, round(_GAP_INTERVALS * interval_ms))


def _chunks(devices: Sequence[Device], start_ms: int, end_ms: int) -> QuerySet[Chunk]:
    hosts = {device.host_id for device in devices}
    return Chunk.objects.filter(host__in=hosts, end_ms__gte=start_ms, start_ms__lt=end_ms).order_by("start_ms")


@dataclass(slots=True)
class _Gathered:
    rows: list[tuple[int, float, int]] = field(default_factory=list)
    interval_ms: int = 0

    def samples(self) -> Samples:
        """Batches of two clocks may overlap, after the wall clock was set back: samples stand in order of time."""
        times, values, clocks = zip(*self.rows, strict=True)
        at = np.array(times, dtype=np.int64)
        order = np.argsort(at, kind="stable")
        readings, numbers = np.array(values, dtype=np.float64), np.array(clocks, dtype=np.int64)
        return Samples(at[order], readings[order], numbers[order], self.interval_ms)


def samples(device: Device, metric: str, start_ms: int, end_ms: int) -> Samples:
    """Return every stored sample of a device's metric with start ≤ time < end."""
    found = raw([device], [metric], start_ms, end_ms)
    return found.get((device.uuid, metric), Samples.none())


def bucketed(devices: Sequence[Device], metrics: Sequence[str], start_ms: int, end_ms: int, points: int) -> Bucketed:
    """Return the series of all devices and metrics in at most `points` buckets of a round length.

    Short ranges are read from raw samples, as long as there are any; others from the minute rollups.
    """
    is_short = (end_ms - start_ms) * len({device.host_id for device in devices}) <= _RAW_HOST_MS
    if is_short and _chunks(devices, start_ms, end_ms).exists():
        found = raw_with_reach(devices, metrics, start_ms, end_ms)
        interval_ms = max((series.interval_ms for series in found.values()), default=1000)
        block = _grid(start_ms, end_ms, _step_ms(start_ms, end_ms, points, 2 * interval_ms))
        for (uuid, metric), series in found.items():
            block.series.setdefault(uuid, {})[metric] = _bucket_samples(metric, series, block)
    else:
        block = _grid(start_ms, end_ms, _step_ms(start_ms, end_ms, points, MINUTE_MS))
        for uuid, metric, rows in _minutes(devices, metrics, block):
            block.series.setdefault(uuid, {})[metric] = _bucket_minutes(metric, rows, block)
    return block


def _grid(start_ms: int, end_ms: int, step_ms: int) -> Bucketed:
    first = start_ms // step_ms * step_ms
    n = max(1, ceil((end_ms - first) / step_ms))
    return Bucketed(start_ms, end_ms, step_ms / 1000, [first + i * step_ms for i in range(n)], {})


def across(block: Bucketed, metric: str, uuids: Sequence[str]) -> Across:
    """Return mean, p10, p90 and sum across devices, per bucket; a bucket without any device is a gap."""
    empty: Column = [None] * len(block.times_ms)
    rows = [block.series[uuid][metric].mean for uuid in uuids if metric in block.series.get(uuid, {})]
    if not rows:
        return Across(empty, empty, empty, empty)
    table = _settled(np.array(rows, dtype=np.float64))
    gaps = np.isnan(table).all(axis=0)
    mean, p10, p90, total = (np.full(table.shape[1], np.nan) for _ in range(4))
    if not gaps.all():
        known = table[:, ~gaps]
        mean[~gaps] = np.nanmean(known, axis=0)
        p10[~gaps], p90[~gaps] = np.nanpercentile(known, [10, 90], axis=0)
        total[~gaps] = np.nansum(known, axis=0)
    return Across(_column(mean), _column(p10), _column(p90), _column(total))


def _settled(table: Floats) -> Floats:
    """Leave out the newest two buckets while they hold fewer devices than the one before: the rest is on its way.

    `table` is `(n_devices, n_buckets)`. Without this every sum would fall at the right edge of its chart.
    """
    counts = (~np.isnan(table)).sum(axis=0)
    newest = np.flatnonzero(counts)[-3:]
    for earlier, later in pairwise(newest.tolist()):
        if counts[later] < counts[earlier]:
            table[:, later:] = np.nan
            break
    return table


def counter_growth(found: Samples) -> tuple[NDArray[np.int64], Floats]:
    """Return when and by how much a counter grew: times `(m,)` of the later samples, growths `(m,)`.

    A fall is a reset and adds nothing. Between two clocks, and across more than `reach_ms`, nothing is counted.
    """
    order = np.lexsort((found.times_ms, found.clocks))
    times, values, clocks = found.times_ms[order], found.values[order], found.clocks[order]
    growth = np.diff(values)
    counts = (np.diff(clocks) == 0) & (np.diff(times) <= reach_ms(found.interval_ms))
    return times[1:][counts], np.where(growth < 0, 0.0, growth)[counts]


def _step_ms(start_ms: int, end_ms: int, points: int, minimum_ms: int) -> int:
    """Return the shortest round step that covers the range in at most `points − 1` steps.

    Not below two sampling intervals: a bucket shorter than that is empty now and then without anything missing.
    """
    wanted = max((end_ms - start_ms) / max(points - 1, 1), minimum_ms)
    return next((step for step in _STEPS_MS if step >= wanted), ceil(wanted / 86_400_000) * 86_400_000)


def _bucket_samples(metric: str, found: Samples, block: Bucketed) -> BucketedMetric:
    first, step, n = block.shape
    if catalog.BY_NAME[metric].kind is Kind.COUNTER:
        at, growth = counter_growth(found)
        return BucketedMetric(increase=_column(_summed((at - first) // step, growth, n)))
    inside = found.times_ms >= first
    bucket, values = (found.times_ms[inside] - first) // step, found.values[inside]
    return _statistics(bucket, values, values, values, np.ones_like(values), n)


def _bucket_minutes(metric: str, rows: NDArray[np.float64], block: Bucketed) -> BucketedMetric:
    first, step, n = block.shape
    bucket = (rows[:, 0].astype(np.int64) - first) // step
    if catalog.BY_NAME[metric].kind is Kind.COUNTER:
        is_known = ~np.isnan(rows[:, 5])
        return BucketedMetric(increase=_column(_summed(bucket[is_known], rows[is_known, 5], n)))
    return _statistics(bucket, rows[:, 2], rows[:, 1], rows[:, 3], rows[:, 4], n)


def _statistics(
    bucket: NDArray[np.int64], means: Floats, minima: Floats, maxima: Floats, counts: Floats, n: int
) -> BucketedMetric:
    weights = np.bincount(bucket, counts, minlength=n)[:n]
    sums = np.bincount(bucket, means * counts, minlength=n)[:n]
    low, high = np.full(n, np.inf), np.full(n, -np.inf)
    np.minimum.at(low, bucket, minima)
    np.maximum.at(high, bucket, maxima)
    known = weights > 0
    mean = np.where(known, sums / np.where(known, weights, 1), np.nan)
    return BucketedMetric(
        mean=_column(mean),
        minimum=_column(np.where(known, low, np.nan)),
        maximum=_column(np.where(known, high, np.nan)),
    )


def _summed(bucket: NDArray[np.int64], growth: Floats, n: int) -> Floats:
    inside = (bucket >= 0) & (bucket < n)
    sums = np.bincount(bucket[inside], growth[inside], minlength=n)[:n]
    seen = np.bincount(bucket[inside], minlength=n)[:n] > 0
    return np.where(seen, sums, np.nan)


def _minutes(
    devices: Sequence[Device], metrics: Sequence[str], block: Bucketed
) -> Iterator[tuple[str, str, NDArray[np.float64]]]:
    """Yield (uuid, metric, rows) with rows `(n, 6)`: minute_ms, minimum, mean, maximum, count, increase (NaN where unknown)."""
    first, step, n = block.shape
    uuids = {device.pk: device.uuid for device in devices}
    rows = MinuteRollup.objects.filter(metric__in=metrics, minute_ms__gte=first, minute_ms__lt=first + n * step)
    if len(uuids) < 500:
        rows = rows.filter(device__in=uuids)
    gathered: dict[tuple[int, str], list[tuple[float, ...]]] = {}
    columns = ("device_id", "metric", "minute_ms", "minimum", "mean", "maximum", "count", "increase")
    for device_id, metric, *numbers in rows.order_by("minute_ms").values_list(*columns).iterator(chunk_size=5000):
        if device_id in uuids:
            gathered.setdefault((device_id, metric), []).append(tuple(np.nan if x is None else x for x in numbers))
    for (device_id, metric), values in gathered.items():
        yield uuids[device_id], metric, np.array(values, dtype=np.float64)


def _column(values: Floats) -> Column:
    return [None if np.isnan(value) else value for value in values.tolist()]
