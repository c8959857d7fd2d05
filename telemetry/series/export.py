"""Series as tables, piece by piece: an hour of samples, or a day or more of rollups, of one device at a time. No HTTP.

Called by the API; memory holds one piece, however long the time is. A column is a metric in base units, NaN where there is
no reading; gauges of rollups are means, counters and states their last reading, beside which stand the other statistics.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from fleet.models import Device, Host
from telemetry.catalog import Kind, Metric
from telemetry.decoding.matrix import in_base_units
from telemetry.models import Rollup
from telemetry.store import rolled, samples, stays
from telemetry.store.chunks import HOUR_MS
from telemetry.store.rolled import Table
from telemetry.store.samples import Floats
from telemetry.store.statistics import Field
from telemetry.store.stays import Holding

COUNT = "_count"  # ends the names of columns that hold numbers of samples
_ROWS = 1440  # buckets of one piece


class Resolution(StrEnum):
    RAW = "raw"
    MINUTE = "1m"
    QUARTER = "15m"
    HOUR = "1h"

    @property
    def step_seconds(self) -> int:
        return {"1m": 60, "15m": 900, "1h": 3600}[self.value]


@dataclass(frozen=True, slots=True)
class Piece:
    """`times_ms (n,)` ascending, of rollups the buckets' beginnings; `columns` by name, each `(n,)`.

    `host` is the one that the device was with then.
    """

    device: Device
    host: str
    times_ms: NDArray[np.int64]
    columns: Mapping[str, Floats]

    def rows(self, which: NDArray[np.int64]) -> "Piece":
        """Return those rows alone."""
        columns = {name: values[which] for name, values in self.columns.items()}
        return Piece(self.device, self.host, self.times_ms[which], columns)


def column_names(metrics: Sequence[Metric], resolution: Resolution) -> dict[str, Metric]:
    """Return the columns of every piece, in order, each with its metric."""
    if resolution is Resolution.RAW:
        return {metric.name: metric for metric in metrics}
    return {f"{metric.name}{suffix}": metric for metric in metrics for suffix in ("", *_suffixes(metric))}


def _suffixes(metric: Metric) -> tuple[str, ...]:
    """Return the statistics beside the metric's own column; those of states are their durations, which are no column."""
    return {Kind.GAUGE: ("_min", "_max", COUNT), Kind.COUNTER: ("_increase", COUNT), Kind.STATE: (COUNT,)}[metric.kind]


def pieces(
    devices: Sequence[Device], metrics: Sequence[Metric], start_ms: int, end_ms: int, resolution: Resolution
) -> Iterator[Piece]:
    """Yield what is stored with start ≤ time < end, in order of time, the devices of each piece's time one after another.

    Also of one that has moved the pieces come in order of time: of a bucket in which it did, a row of each host.
    """
    if resolution is Resolution.RAW:
        yield from _of_samples(devices, metrics, start_ms, end_ms)
    else:
        yield from _of_rollups(devices, metrics, start_ms, end_ms, resolution.step_seconds)


def _of_samples(devices: Sequence[Device], metrics: Sequence[Metric], start_ms: int, end_ms: int) -> Iterator[Piece]:
    numbers = {metric.number for metric in metrics}
    names = _names(devices, start_ms, end_ms)
    for hour_ms in samples.hours(devices, start_ms, end_ms):
        span = max(hour_ms, start_ms), min(hour_ms + HOUR_MS, end_ms)
        for device, host, begin_ms, until_ms in _in_their_stays(devices, names, *span):
            found = samples.within(device, begin_ms, until_ms, numbers)
            rows = {number: row for row, (_, number) in enumerate(found.series)}
            order = np.argsort(found.times_ms, kind="stable")
            order = order[found.present[:, order].any(axis=0)]
            columns = {}
            for metric in metrics:
                columns[metric.name] = np.full(order.size, np.nan)
                if (row := rows.get(metric.number)) is not None:
                    values = in_base_units(found.steps[row, order], metric.resolution)
                    columns[metric.name] = np.where(found.present[row, order], values, np.nan)
            if order.size:
                yield Piece(device, host, found.times_ms[order], columns)


def _in_their_stays(
    devices: Sequence[Device], names: Mapping[int, str], start_ms: int, end_ms: int
) -> Iterator[tuple[Device, str, int, int]]:
    """Yield each device with the name of the host that it was with from when to when."""
    found = stays.of_devices(devices, start_ms, end_ms)
    for device in devices:
        first, *later = found[device.pk]
        since = start_ms  # what there is before its first stay
        for stay in (first, *later):
            yield device, names[stay.host_id], max(since, start_ms), min(stay.until_ms, end_ms)
            since = stay.until_ms


def _names(devices: Sequence[Device], start_ms: int, end_ms: int) -> dict[int, str]:
    """Return the names of the hosts that have, or had the devices, by id."""
    known = {device.host_id: device.host.name for device in devices}
    then = stays.hosts_of(devices, start_ms, end_ms) - known.keys()
    return known | (dict(Host.objects.filter(pk__in=then).values_list("pk", "name")) if then else {})


def _of_rollups(
    devices: Sequence[Device], metrics: Sequence[Metric], start_ms: int, end_ms: int, step: int
) -> Iterator[Piece]:
    length_ms = 1000 * step * _ROWS
    names, held = _names(devices, start_ms - length_ms, end_ms), stays.by_host(devices, start_ms - length_ms, end_ms)
    moved = set().union(*(holding.moved for holding in held.values()))
    settled = [device for device in devices if device.pk not in moved]
    for at_ms in _lengths(held, step, length_ms, start_ms, end_ms):
        span = max(at_ms, start_ms), min(at_ms + length_ms, end_ms)
        for host, holding in held.items():
            here = [device for device in settled if device.uuid in holding.ids]
            for table in _tables([host] if here else [], step, span, metrics).values():
                own = (_piece(device, names[host], table, metrics) for device in here)
                yield from (piece for piece in own if piece is not None)
        for some, hosts in _by_journey([device for device in devices if device.pk in moved], held):
            tables = _tables(hosts, step, span, metrics)
            for device in some:
                yield from _in_turn(device, tables, names, metrics)


def _tables(hosts: Collection[int], step: int, span: tuple[int, int], metrics: Sequence[Metric]) -> Mapping[int, Table]:
    return rolled.of_hosts(hosts, step, *span, {metric.number for metric in metrics}) if hosts else {}


def _by_journey(
    moved: Sequence[Device], held: Mapping[int, Holding]
) -> Iterator[tuple[list[Device], frozenset[int]]]:  # fmt: skip
    """Yield devices that were with the same hosts, and these: what is read at once is as much as a device has travelled."""
    found: dict[frozenset[int], list[Device]] = {}
    for device in moved:
        hosts = frozenset(host for host, holding in held.items() if device.uuid in holding.ids)
        found.setdefault(hosts, []).append(device)
    yield from ((devices, hosts) for hosts, devices in found.items())


def _in_turn(
    device: Device, tables: Mapping[int, Table], names: Mapping[int, str], metrics: Sequence[Metric]
) -> Iterator[Piece]:  # fmt: skip
    """Yield what several hosts have of a device in order of time; of a bucket in which it moved each has a part."""
    pieces = [_piece(device, names[host], table, metrics) for host, table in tables.items()]
    own = [piece for piece in pieces if piece is not None]
    if not own:
        return
    times = np.concatenate([piece.times_ms for piece in own])
    whose = np.repeat(np.arange(len(own)), [piece.times_ms.size for piece in own])
    rows = np.concatenate([np.arange(piece.times_ms.size) for piece in own])
    order = np.argsort(times, kind="stable")
    for run in np.split(order, np.flatnonzero(np.diff(whose[order])) + 1):
        yield own[whose[run[0]]].rows(rows[run])


def _lengths(hosts: Collection[int], step: int, length_ms: int, start_ms: int, end_ms: int) -> list[int]:
    """Return the beginnings of the pieces' times in which there are rollups."""
    found: set[int] = set()
    for of_step, first_ms, n in (row for host in hosts for row in rolled.spans(Rollup, host=host)):
        if of_step == step:
            found.update(range(first_ms // length_ms * length_ms, first_ms + 1000 * step * n, length_ms))
    return sorted(at_ms for at_ms in found if start_ms - length_ms < at_ms < end_ms)


def _piece(device: Device, host: str, table: Table, metrics: Sequence[Metric]) -> Piece | None:
    own = table.keys.owners == device.pk
    columns: dict[str, Floats] = {}
    filled = np.zeros(table.starts_ms.size, np.bool_)
    for metric in metrics:
        of = {
            Field(int(table.keys.fields[row])): table.values[row]
            for row in np.flatnonzero(own & (table.keys.numbers == metric.number))
            if table.keys.fields[row] != Field.MILLISECONDS
        }
        count = of.get(Field.COUNT, np.zeros(table.starts_ms.size, np.int64))
        filled |= count > 0
        columns |= _columns(metric, of, count)
    if not filled.any():
        return None
    return Piece(device, host, table.starts_ms[filled], {name: values[filled] for name, values in columns.items()})


def _columns(metric: Metric, of: Mapping[Field, NDArray[np.int64]], count: NDArray[np.int64]) -> dict[str, Floats]:
    is_there = count > 0

    def known(field: Field, where: NDArray[np.bool_] = is_there) -> Floats:
        values = in_base_units(of.get(field, np.zeros_like(count)), metric.resolution)
        found: Floats = np.where(where, values, np.nan)
        return found

    counts = {f"{metric.name}{COUNT}": np.where(is_there, count, np.nan)}
    if metric.kind is Kind.GAUGE:
        means = known(Field.SUM) / np.where(is_there, count, 1)
        return {
            metric.name: means, f"{metric.name}_min": known(Field.MINIMUM), f"{metric.name}_max": known(Field.MAXIMUM),
        } | counts  # fmt: skip
    if metric.kind is Kind.STATE:
        return {metric.name: known(Field.LAST)} | counts
    grew = of.get(Field.GREW, np.zeros_like(count)) > 0
    return {metric.name: known(Field.LAST), f"{metric.name}_increase": known(Field.INCREASE, grew)} | counts
