"""What telemetry's API answers over time, made from the read side's series and trends. Called by telemetry/api.py."""

from datetime import datetime
from typing import Literal

from ninja import Schema

from telemetry.catalog import Kind, Metric
from telemetry.store.read import Bucketed, BucketedMetric, Column
from telemetry.trends import Trend


class GaugeSeries(Schema):
    """Each list `(n_buckets,)`; null in a bucket without a sample."""

    kind: Literal[Kind.GAUGE] = Kind.GAUGE
    unit: str
    time_ms: list[int]
    mean: Column
    min: Column
    max: Column


class CounterSeries(Schema):
    """Growth per bucket; a reset adds nothing, null in a bucket without a sample."""

    kind: Literal[Kind.COUNTER] = Kind.COUNTER
    unit: str
    time_ms: list[int]
    increase: Column


class StateSeries(Schema):
    """Seconds at each value per bucket; null in a bucket without a sample."""

    kind: Literal[Kind.STATE] = Kind.STATE
    unit: str
    time_ms: list[int]
    seconds: dict[str, Column]


class DeviceSeries(Schema):
    start: datetime
    end: datetime
    step_seconds: float
    metrics: dict[str, GaugeSeries | CounterSeries | StateSeries]


def series_of(block: Bucketed, uuid: str, metric: Metric) -> GaugeSeries | CounterSeries:
    """Return one gauge's or counter's columns; a metric without any sample is null throughout."""
    gap: Column = [None] * len(block.times_ms)
    empty = BucketedMetric(mean=gap, minimum=gap, maximum=gap, increase=gap)
    found = block.series.get(uuid, {}).get(metric.name, empty)
    if metric.kind is Kind.COUNTER:
        return CounterSeries(unit=metric.unit, time_ms=block.times_ms, increase=found.increase)
    return GaugeSeries(unit=metric.unit, time_ms=block.times_ms, mean=found.mean, min=found.minimum, max=found.maximum)


class Group(Schema):
    """One group of devices over time, each list `(n_buckets,)`; null in a gap."""

    key: str
    mean: Column
    p10: Column
    p90: Column
    total: Column


class FleetSeries(Schema):
    start: datetime
    end: datetime
    step_seconds: float
    metric: str
    unit: str
    time_ms: list[int]
    groups: list[Group]


def group_of(key: str, trend: Trend, name: str) -> Group:
    """Return the trend's group `name` under the key that the caller asked for."""
    return Group(key=key, mean=trend.mean[name], p10=trend.p10[name], p90=trend.p90[name], total=trend.total[name])
