"""The stored samples themselves, of devices and a span of time: from chunks, and from batches that are not compacted yet.

Called by the store's other parts and the energy accounts; nobody outside the store knows the layout.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from django.db.models import QuerySet
from numpy.typing import NDArray

from fleet.models import Device
from telemetry import catalog
from telemetry.catalog import Kind
from telemetry.decoding import matrix
from telemetry.message import wire
from telemetry.models import Chunk, StoredBatch
from telemetry.store import chunks, stays, stored_batches, straight
from telemetry.store.chunks import HOUR_MS, DeviceHour
from telemetry.store.gather import Gathered, Gathering
from telemetry.store.stays import Stay

COUNTER_REACH_MS = 30_000  # a counter's growth across a longer silence is not counted: sums never bridge a gap
_GAP_INTERVALS = 2.5  # unless it is sampled so slowly that this is no silence

Floats = NDArray[np.float64]
_Hours = dict[int, list[DeviceHour]]


@dataclass(frozen=True, slots=True)
class Samples:
    """Readings of one metric of one device: `times_ms (n,) int64` ascending, `values (n,) float64` in base units.

    `clocks (n,)` numbers the clock that each time was read on: an agent's start, and every step of its wall clock, begins
    another. `intervals_ms (n,)` is the sampling interval of each: what is a gap in one stretch is none in a slower one.
    """

    times_ms: NDArray[np.int64]
    values: Floats
    clocks: NDArray[np.int64]
    intervals_ms: NDArray[np.int64]

    @classmethod
    def none(cls) -> "Samples":
        nothing = np.empty(0, np.int64)
        return cls(nothing, np.empty(0), nothing, nothing)

    def taken(self, which: NDArray[np.bool_]) -> "Samples":
        """Return those samples alone, `(n,)`."""
        return Samples(self.times_ms[which], self.values[which], self.clocks[which], self.intervals_ms[which])

    @property
    def interval_ms(self) -> int:
        """The longest sampling interval among them; a second where there is none."""
        return int(self.intervals_ms.max()) if self.intervals_ms.size else 1000


def raw(
    devices: Sequence[Device], metrics: Sequence[str], start_ms: int, end_ms: int
) -> dict[tuple[str, str], Samples]:
    """Return the stored samples with start ≤ time < end by (device uuid, metric); a series without any is left out.

    A chunk that is corrupt is reported and left out.
    """
    numbers = {catalog.BY_NAME[name].number for name in metrics}
    stored = _stored(devices, numbers, start_ms, end_ms)
    series: dict[tuple[str, str], Samples] = {}
    others = []
    for device in devices:
        hours = stored.hours
        if not stored.has_batches(device) and straight.is_straight(hours.get(device.pk, [])):
            series |= _straight(device, hours.get(device.pk, []), start_ms, end_ms)
        else:
            others.append(device)
    for gathering in _gatherings(others, numbers, stored):
        series |= _series(gathering.gathered(), start_ms, end_ms)
    return series


def within(device: Device, start_ms: int, end_ms: int, numbers: Collection[int] | None = None) -> Gathered:
    """Return what is stored of the device with start ≤ time < end, as it was sent; `numbers` None wants all metrics."""
    (gathering,) = _gatherings([device], numbers, _stored([device], numbers, start_ms, end_ms))
    return gathering.gathered().between(start_ms, end_ms)


def hours(devices: Sequence[Device], start_ms: int, end_ms: int) -> list[int]:
    """Return the beginnings of the hours in which the devices may have samples, ascending."""
    chunked = Chunk.objects.filter(device__in=devices, start_ms__gt=start_ms - HOUR_MS, start_ms__lt=end_ms)
    found = set(chunked.values_list("start_ms", flat=True))
    batches = _batches(stays.hosts_of(devices, start_ms, end_ms), start_ms, end_ms)
    for first_ms, last_ms in batches.values_list("start_ms", "end_ms"):
        found.update(range(first_ms // HOUR_MS * HOUR_MS, last_ms + 1, HOUR_MS))
    return sorted(at for at in found if start_ms - HOUR_MS < at < end_ms)


class _Stored(NamedTuple):
    """Batches by host that are not compacted, and hours by device; and which host had each device, by its id."""

    batches: dict[int, list[StoredBatch]]
    hours: _Hours
    stays: dict[int, list[Stay]]
    start_ms: int

    def is_settled(self, device: Device) -> bool:
        """Tell whether one host has had the device all the time."""
        first, *later = self.stays[device.pk]
        return not later and first.from_ms <= self.start_ms

    def has_batches(self, device: Device) -> bool:
        return any(stay.host_id in self.batches for stay in self.stays[device.pk])


def _stored(devices: Sequence[Device], numbers: Collection[int] | None, start_ms: int, end_ms: int) -> _Stored:
    """Return what there is of the devices; some of it lies outside of the span."""
    # Batches before chunks: what is compacted between the two is read twice and counted once, not missed.
    batches: dict[int, list[StoredBatch]] = {}
    whose = stays.of_devices(devices, start_ms, end_ms)
    hosts = {stay.host_id for of_device in whose.values() for stay in of_device}
    for row in _batches(hosts, start_ms, end_ms):
        batches.setdefault(row.host_id, []).append(row)
    return _Stored(batches, _hours(devices, numbers, start_ms, end_ms), whose, start_ms)


def _gatherings(devices: Sequence[Device], numbers: Collection[int] | None, stored: _Stored) -> list[Gathering]:
    """Return what was stored of the devices: those together that one host has had all along, each that has moved for itself.

    The batches come last: where two say different things, the later holds.
    """
    by_host: dict[int, list[Device]] = {}
    for device in devices:
        if stored.is_settled(device):
            by_host.setdefault(stored.stays[device.pk][0].host_id, []).append(device)
    gatherings = []
    for host, of_host in by_host.items():
        gathering = _of_hours(of_host, numbers, stored.hours)
        stored_batches.add(gathering, stored.batches.get(host, []))
        gatherings.append(gathering)
    for device in devices:
        if not stored.is_settled(device):
            gathering = _of_hours([device], numbers, stored.hours)
            for stay in stored.stays[device.pk]:
                said = Gathering([device.uuid], numbers)
                stored_batches.add(said, stored.batches.get(stay.host_id, []))
                spans = {device.uuid: ((stay.from_ms, stay.until_ms),)}
                gathering.add_gathered(said.gathered().of_stays(spans))
            gatherings.append(gathering)
    return gatherings


def _of_hours(devices: Sequence[Device], numbers: Collection[int] | None, hours: _Hours) -> Gathering:
    gathering = Gathering({device.uuid for device in devices}, numbers)
    for device in devices:
        for hour in hours.get(device.pk, []):
            gathering.add_hour(device.uuid, hour)
    return gathering


def _batches(hosts: Collection[int], start_ms: int, end_ms: int) -> QuerySet[StoredBatch]:
    # The key begins with host and start: the longest that a batch may be bounds what is looked through.
    return StoredBatch.objects.filter(
        host__in=hosts, start_ms__gte=start_ms - wire.MAX_SPAN_MS, start_ms__lt=end_ms, end_ms__gte=start_ms
    ).order_by("host_id", "epoch", "sequence")


def _hours(devices: Sequence[Device], numbers: Collection[int] | None, start_ms: int, end_ms: int) -> _Hours:
    """Return the compacted hours by device, in order. A chunk that is corrupt is reported and left out."""
    uuids = {device.pk: device.uuid for device in devices}
    rows = Chunk.objects.filter(device__in=uuids, start_ms__gt=start_ms - HOUR_MS, start_ms__lt=end_ms)
    found: _Hours = {}
    ordered = rows.order_by("start_ms").values_list("device_id", "start_ms", "body")
    for device_id, at_ms, body in ordered.iterator(chunk_size=100):
        try:
            found.setdefault(device_id, []).append(chunks.decode(bytes(body), numbers))
        except chunks.ChunkCorrupt as error:
            chunks.warn_corrupt(uuids[device_id], at_ms, error)
    return found


def _straight(
    device: Device, hours: Sequence[DeviceHour], start_ms: int, end_ms: int
) -> dict[tuple[str, str], Samples]:  # fmt: skip
    found = {}
    for each in straight.joined(hours, start_ms, end_ms):
        metric = catalog.BY_NUMBER[each.number]
        values, clocks = matrix.in_base_units(each.steps, metric.resolution), np.zeros_like(each.times_ms)
        found[device.uuid, metric.name] = Samples(each.times_ms, values, clocks, each.intervals_ms)
    return found


def _series(found: Gathered, start_ms: int, end_ms: int) -> Iterator[tuple[tuple[str, str], Samples]]:
    """Yield the series in order of time: those of two clocks may overlap, after the wall clock was set back."""
    inside = np.flatnonzero((found.times_ms >= start_ms) & (found.times_ms < end_ms))
    inside = inside[np.argsort(found.times_ms[inside], kind="stable")]
    times, clocks, interval = found.times_ms[inside], found.clocks[inside], milliseconds(found.seconds[inside])
    for row, (uuid, number) in enumerate(found.series):
        metric = catalog.BY_NUMBER[number]
        steps, present = found.steps[row, inside], found.present[row, inside]
        if present.all():
            at, of, every = times, clocks, interval
        else:
            at, of, every, steps = times[present], clocks[present], interval[present], steps[present]
        if at.size:
            values = matrix.in_base_units(steps, metric.resolution)
            yield (uuid, metric.name), Samples(at, values, of, every)


def milliseconds(seconds: Floats) -> NDArray[np.int64]:
    """Return sampling intervals in whole ms."""
    return np.rint(1000 * seconds).astype(np.int64)


def raw_with_reach(
    devices: Sequence[Device], metrics: Sequence[str], start_ms: int, end_ms: int
) -> dict[tuple[str, str], Samples]:
    """Return the same, and from before the start what the growth of counters begins from."""
    found = raw(devices, metrics, start_ms - COUNTER_REACH_MS, end_ms)
    counters = [s for (_, metric), s in found.items() if catalog.BY_NAME[metric].kind is Kind.COUNTER]
    longest_ms = max((reach_ms(series.interval_ms) for series in counters), default=0)
    return raw(devices, metrics, start_ms - longest_ms, end_ms) if longest_ms > COUNTER_REACH_MS else found


def reach_ms(interval_ms: int) -> int:
    """Return the longest time across which the growth of a counter counts that is sampled at this interval."""
    return max(COUNTER_REACH_MS, round(_GAP_INTERVALS * interval_ms))


def reaches_ms(intervals_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the same for each of these intervals."""
    gaps_ms: NDArray[np.int64] = np.rint(_GAP_INTERVALS * intervals_ms).astype(np.int64)
    return np.maximum(gaps_ms, np.int64(COUNTER_REACH_MS))


def of_device(device: Device, metric: str, start_ms: int, end_ms: int) -> Samples:
    """Return every stored sample of a device's metric with start ≤ time < end."""
    found = raw([device], [metric], start_ms, end_ms)
    return found.get((device.uuid, metric), Samples.none())


class Growth(NamedTuple):
    """Differences between samples of a counter, each `(m,)`: when the later one was taken, by how much it grew, in how long."""

    times_ms: NDArray[np.int64]
    growths: Floats
    lasted_ms: NDArray[np.int64]


def counter_growth(found: Samples) -> Growth:
    """Return when and by how much a counter grew.

    A fall is a reset and adds nothing. Between two clocks, and across more than `reaches_ms`, nothing is counted.
    """
    times, values, clocks, intervals = found.times_ms, found.values, found.clocks, found.intervals_ms
    if (clocks != clocks[:1]).any():
        order = np.lexsort((times, clocks))
        times, values, clocks, intervals = times[order], values[order], clocks[order], intervals[order]
    growth, lasted = np.diff(values), np.diff(times)
    counts = (np.diff(clocks) == 0) & (lasted <= reaches_ms(np.maximum(intervals[1:], intervals[:-1])))
    return Growth(times[1:][counts], np.where(growth < 0, 0.0, growth)[counts], lasted[counts])
