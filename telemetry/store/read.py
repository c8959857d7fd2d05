"""Reading series at the resolution that fits the time range. Called by the queries; nobody outside the store knows the layout."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil

import numpy as np
from numpy.typing import NDArray

from fleet.models import Device
from telemetry import catalog
from telemetry.catalog import Kind
from telemetry.store.samples import Floats, Samples, counter_growth, raw_with_reach

MINUTE_MS = 60_000
_STEPS_MS = [s * 1000 for s in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 43_200, 86_400)]

Column = list[float | None]


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


def bucketed(devices: Sequence[Device], metrics: Sequence[str], start_ms: int, end_ms: int, points: int) -> Bucketed:
    """Return the series of all devices and metrics in at most `points` buckets of a round length.

    Short ranges are read from raw samples, as long as there are any; others from the minute rollups.
    """
    found = raw_with_reach(devices, metrics, start_ms, end_ms)
    interval_ms = max((series.interval_ms for series in found.values()), default=1000)
    block = _grid(start_ms, end_ms, _step_ms(start_ms, end_ms, points, 2 * interval_ms))
    for (uuid, metric), series in found.items():
        block.series.setdefault(uuid, {})[metric] = _bucket_samples(metric, series, block)
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


def _column(values: Floats) -> Column:
    return [None if np.isnan(value) else value for value in values.tolist()]
