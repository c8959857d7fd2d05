"""What telemetry's API answers over time, made from the read side's series and trends. Called by telemetry/api/router.py.

The schemas are what the answers look like; the answers are written past them, from numpy's arrays: they are long.
"""

from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import orjson
from django.http import HttpResponse
from ninja import Schema
from numpy.typing import NDArray

from telemetry.catalog import Kind, Metric
from telemetry.series.trends import Trend
from telemetry.store.read import Bucketed, BucketedMetric, Column
from telemetry.store.samples import Floats


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


def device_series(block: Bucketed, uuid: str, metrics: list[Metric]) -> HttpResponse:
    """Return a DeviceSeries of the device's metrics."""
    times = _written_once(block.times_ms)
    answer = _span(block.start_ms, block.end_ms, block.step_seconds)
    answer["metrics"] = {
        metric.name: {"kind": metric.kind, "unit": metric.unit, "time_ms": times}
        | _columns(metric, block.of(uuid, metric.name))
        for metric in metrics
    }
    return _written(answer)


def _columns(metric: Metric, found: BucketedMetric) -> dict[str, Any]:
    if metric.kind is Kind.STATE:
        return {"seconds": {str(value): _plain(column) for value, column in sorted(found.seconds.items())}}
    if metric.kind is Kind.COUNTER:
        return {"increase": _plain(found.increase)}
    if found.minimum is found.mean and found.maximum is found.mean:
        every = _written_once(_plain(found.mean))
        return {"mean": every, "min": every, "max": every}
    return {"mean": found.mean, "min": _plain(found.minimum), "max": _plain(found.maximum)}


def _plain(values: Floats) -> NDArray[Any]:
    """Return whole numbers as integers: the same numbers in JSON, of fewer bytes and written in a seventh of the time."""
    with np.errstate(invalid="ignore"):  # what is no number becomes one that it does not equal
        whole = values.astype(np.int64)
    return whole if (whole == values).all() else values


def _written_once(values: NDArray[Any] | list[int]) -> orjson.Fragment:
    """Return the values as JSON, for what stands in an answer several times."""
    return orjson.Fragment(orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY))


def _span(start_ms: int, end_ms: int, step_seconds: float) -> dict[str, Any]:
    start, end = (datetime.fromtimestamp(at / 1000, UTC) for at in (start_ms, end_ms))
    return {"start": start, "end": end, "step_seconds": step_seconds}


def _written(answer: dict[str, Any]) -> HttpResponse:
    """Return the answer as JSON; NaN is written as null."""
    body = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_UTC_Z)
    return HttpResponse(body, content_type="application/json")


class Group(Schema):
    """One group of devices over time, each list `(n_buckets,)`; null in a gap. The percentiles are of devices."""

    key: str
    mean: Column
    p10: Column
    p50: Column
    p90: Column
    total: Column


_OF_GROUP = tuple(name for name in Group.model_fields if name != "key")


class FleetSeries(Schema):
    start: datetime
    end: datetime
    step_seconds: float
    metric: str
    unit: str
    time_ms: list[int]
    groups: list[Group]


def fleet_series(trend: Trend, metric: Metric, start_ms: int, end_ms: int) -> HttpResponse:
    """Return a FleetSeries of the trend's groups."""
    answer = _span(start_ms, end_ms, trend.step_seconds)
    groups = [{"key": key, **{name: getattr(trend, name)[key] for name in _OF_GROUP}} for key in trend.mean]
    about = {"metric": metric.name, "unit": metric.unit, "time_ms": trend.times_ms}
    return _written(answer | about | {"groups": groups})
