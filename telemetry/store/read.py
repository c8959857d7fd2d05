"""Reading the store: newest readings, and series at the resolution that fits the time range.

Called by the queries and the energy accounts; nobody outside the store knows the layout.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil, floor

import numpy as np
from django.conf import settings
from numpy.typing import NDArray

from fleet.models import Device, Host
from telemetry import catalog, wire
from telemetry.catalog import Kind
from telemetry.models import Chunk, LatestState, MinuteRollup

MINUTE_MS = 60_000
_RAW_HOST_MS = 2 * 3_600_000  # two hours of one host, one hour of two, …: above this the minute rollups are read
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
    """The newest readings of one host; `agent` is its agent's own cost."""

    at_ms: int
    devices: dict[str, LatestDevice]
    agent: dict[str, float]


@dataclass(frozen=True, slots=True)
class Samples:
    """Readings of one metric of one device: `times_ms (n,) int64` ascending, `values (n,) float64` in base units."""

    times_ms: NDArray[np.int64]
    values: Floats


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
            row.agent,
        )
        for row in rows
    }


def raw(
    devices: Sequence[Device], metrics: Sequence[str], start_ms: int, end_ms: int
) -> dict[tuple[str, str], Samples]:
    """Return the stored samples with start ≤ time < end by (device uuid, metric); a series without any is left out."""
    wanted = {device.uuid for device in devices}
    gathered: dict[tuple[str, str], tuple[list[int], list[float]]] = {}
    chunks = Chunk.objects.filter(
        host__in={device.host_id for device in devices}, end_ms__gte=start_ms, start_ms__lt=end_ms
    ).order_by("start_ms")
    for body in chunks.values_list("body", flat=True).iterator(chunk_size=500):
        batch = wire.unpack(bytes(body), metrics)
        for metric in metrics:
            for device, column in zip(batch.devices, batch.columns.get(metric, ()), strict=False):
                if device.uuid in wanted:
                    times, values = gathered.setdefault((device.uuid, metric), ([], []))
                    for at, value in zip(batch.times_ms, column, strict=True):
                        if value is not None and start_ms <= at < end_ms:
                            times.append(at)
                            values.append(value)
    return {key: _sorted(times, values) for key, (times, values) in gathered.items() if times}


def samples(device: Device, metric: str, start_ms: int, end_ms: int) -> Samples:
    """Return every stored sample of a device's metric with start ≤ time < end."""
    found = raw([device], [metric], start_ms, end_ms)
    return found.get((device.uuid, metric), Samples(np.empty(0, np.int64), np.empty(0)))


def bucketed(devices: Sequence[Device], metrics: Sequence[str], start_ms: int, end_ms: int, points: int) -> Bucketed:
    """Return the series of all devices and metrics in at most `points` buckets of a round length.

    Short ranges are read from raw samples, long ones from the minute rollups.
    """
    sample_ms = int(settings.STEPWATT_SAMPLE_SECONDS * 1000)
    from_samples = (end_ms - start_ms) * len({device.host_id for device in devices}) <= _RAW_HOST_MS
    step = _step_ms(start_ms, end_ms, points, 2 * sample_ms if from_samples else MINUTE_MS)
    first = floor(start_ms / step) * step
    n = max(1, ceil((end_ms - first) / step))
    block = Bucketed(start_ms, end_ms, step / 1000, [first + i * step for i in range(n)], {})
    if from_samples:
        for (uuid, metric), found in raw(devices, metrics, first - 5 * sample_ms, first + n * step).items():
            block.series.setdefault(uuid, {})[metric] = _bucket_samples(metric, found, first, step, n)
    else:
        for uuid, metric, rows in _minutes(devices, metrics, first, first + n * step):
            block.series.setdefault(uuid, {})[metric] = _bucket_minutes(metric, rows, first, step, n)
    return block


def across(block: Bucketed, metric: str, uuids: Sequence[str]) -> Across:
    """Return mean, p10, p90 and sum across devices, per bucket; a bucket without any device is a gap."""
    empty: Column = [None] * len(block.times_ms)
    rows = [block.series[uuid][metric].mean for uuid in uuids if metric in block.series.get(uuid, {})]
    if not rows:
        return Across(empty, empty, empty, empty)
    table = np.array(rows, dtype=np.float64)
    gaps = np.isnan(table).all(axis=0)
    mean, p10, p90, total = (np.full(table.shape[1], np.nan) for _ in range(4))
    if not gaps.all():
        known = table[:, ~gaps]
        mean[~gaps] = np.nanmean(known, axis=0)
        p10[~gaps], p90[~gaps] = np.nanpercentile(known, [10, 90], axis=0)
        total[~gaps] = np.nansum(known, axis=0)
    return Across(_column(mean), _column(p10), _column(p90), _column(total))


def counter_increase(values: Floats) -> Floats:
    """Return the growth from sample to sample, `(n − 1,)`; a fall is a reset and adds nothing."""
    growth = np.diff(values)
    return np.where(growth < 0, 0.0, growth)


def _step_ms(start_ms: int, end_ms: int, points: int, minimum_ms: int) -> int:
    """Return the shortest round step that covers the range in at most `points − 1` steps.

    Not below two sampling intervals: a bucket shorter than that is empty now and then without anything missing.
    """
    wanted = max((end_ms - start_ms) / max(points - 1, 1), minimum_ms)
    return next((step for step in _STEPS_MS if step >= wanted), ceil(wanted / 86_400_000) * 86_400_000)


def _sorted(times: list[int], values: list[float]) -> Samples:
    """Batches of two segments may overlap after the wall clock was set back; samples stand in order of time."""
    at, readings = np.array(times, dtype=np.int64), np.array(values, dtype=np.float64)
    order = np.argsort(at, kind="stable")
    return Samples(at[order], readings[order])


def _bucket_samples(metric: str, found: Samples, first: int, step: int, n: int) -> BucketedMetric:
    if catalog.BY_NAME[metric].kind is Kind.COUNTER:
        growth, at = counter_increase(found.values), found.times_ms[1:]
        return BucketedMetric(increase=_column(_summed((at - first) // step, growth, n)))
    inside = found.times_ms >= first
    bucket, values = (found.times_ms[inside] - first) // step, found.values[inside]
    return _statistics(bucket, values, values, values, np.ones_like(values), n)


def _bucket_minutes(metric: str, rows: NDArray[np.float64], first: int, step: int, n: int) -> BucketedMetric:
    bucket = (rows[:, 0].astype(np.int64) - first) // step
    if catalog.BY_NAME[metric].kind is Kind.COUNTER:
        return BucketedMetric(increase=_column(_summed(bucket, rows[:, 5], n)))
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
    devices: Sequence[Device], metrics: Sequence[str], start_ms: int, end_ms: int
) -> Iterator[tuple[str, str, NDArray[np.float64]]]:
    """Yield (uuid, metric, rows) with rows `(n, 6)`: minute_ms, minimum, mean, maximum, count, increase."""
    uuids = {device.pk: device.uuid for device in devices}
    rows = MinuteRollup.objects.filter(metric__in=metrics, minute_ms__gte=start_ms, minute_ms__lt=end_ms)
    if len(uuids) < 500:
        rows = rows.filter(device__in=uuids)
    gathered: dict[tuple[int, str], list[tuple[float, ...]]] = {}
    columns = ("device_id", "metric", "minute_ms", "minimum", "mean", "maximum", "count", "increase")
    for device_id, metric, *numbers in rows.order_by("minute_ms").values_list(*columns).iterator(chunk_size=5000):
        if device_id in uuids:
            gathered.setdefault((device_id, metric), []).append(tuple(0.0 if x is None else x for x in numbers))
    for (device_id, metric), values in gathered.items():
        yield uuids[device_id], metric, np.array(values, dtype=np.float64)


def _column(values: Floats) -> Column:
    return [None if np.isnan(value) else value for value in values.tolist()]
