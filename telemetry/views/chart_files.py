"""What charts show as files: the same time, the same buckets, base units, a gap as an empty cell. Called by data.py."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

from django.http import HttpResponse

from fleet.models import Device
from fleet.web.csv_answer import csv_answer
from telemetry import catalog
from telemetry.catalog import Kind
from telemetry.charts import chart_groups
from telemetry.charts.traces import Column
from telemetry.store.read import Bucketed, column


def columns_file(name: str, times_ms: Sequence[int], columns: Mapping[str, Column]) -> HttpResponse:
    """Return a row a bucket, a column a line of the chart."""
    return csv_answer(name, ("time", *columns), zip(_moments(times_ms), *columns.values(), strict=True))


def devices_file(name: str, block: Bucketed, devices: Sequence[Device], metrics: Sequence[str]) -> HttpResponse:
    """Return a row a bucket and device: of each metric mean, min and max; of a counter its growth per second."""
    head = [f"{_named(metric)}_{part}" for metric in metrics for part in ("mean", "min", "max")]
    return csv_answer(name, ("time", "device", "uuid", *head), _rows(block, devices, metrics))


def _rows(block: Bucketed, devices: Sequence[Device], metrics: Sequence[str]) -> Iterator[tuple[object, ...]]:
    for device in devices:
        found = [chart_groups.levels(block, device.uuid, metric) for metric in metrics]
        drawn = [column(values) for each in found for values in (each.mean, each.minimum, each.maximum)]
        for at, *values in zip(_moments(block.times_ms), *drawn, strict=True):
            yield (at, device.title, device.uuid, *values)


def _named(metric: str) -> str:
    return f"{metric}_per_second" if catalog.BY_NAME[metric].kind is Kind.COUNTER else metric


def _moments(times_ms: Iterable[int]) -> Iterator[datetime]:
    return (datetime.fromtimestamp(at / 1000, UTC) for at in times_ms)
