"""The stored samples themselves, of devices and a span of time: from chunks, and from batches that are not compacted yet.

Called by the store's other parts and the energy accounts; nobody outside the store knows the layout.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from django.db.models import QuerySet
from numpy.typing import NDArray

from fleet.models import Device
from telemetry import catalog, matrix, wire
from telemetry.catalog import Kind
from telemetry.models import Chunk, StoredBatch
from telemetry.store import chunks, stored_batches
from telemetry.store.chunks import HOUR_MS
from telemetry.store.gather import Gathered, Gathering

_COUNTER_REACH_MS = 30_000  # a counter's growth across a longer silence is not counted: sums never bridge a gap
_GAP_INTERVALS = 2.5  # unless it is sampled so slowly that this is no silence

Floats = NDArray[np.float64]


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


def raw(
    devices: Sequence[Device], metrics: Sequence[str], start_ms: int, end_ms: int
) -> dict[tuple[str, str], Samples]:
    """Return the stored samples with start ≤ time < end by (device uuid, metric); a series without any is left out.

    A chunk that is corrupt is reported and left out.
    """
    numbers = {catalog.BY_NAME[name].number for name in metrics}
    series: dict[tuple[str, str], Samples] = {}
    for gathering in _gatherings(devices, numbers, start_ms, end_ms).values():
        series |= _series(gathering.gathered(), start_ms, end_ms)
    return series


def within(device: Device, start_ms: int, end_ms: int, numbers: Collection[int] | None = None) -> Gathered:
    """Return what is stored of the device with start ≤ time < end, as it was sent; `numbers` None wants all metrics."""
    (gathering,) = _gatherings([device], numbers, start_ms, end_ms).values()
    return gathering.gathered().between(start_ms, end_ms)


def hours(devices: Sequence[Device], start_ms: int, end_ms: int) -> list[int]:
    """Return the beginnings of the hours in which the devices may have samples, ascending."""
    chunked = Chunk.objects.filter(device__in=devices, start_ms__gt=start_ms - HOUR_MS, start_ms__lt=end_ms)
    found = set(chunked.values_list("start_ms", flat=True))
    batches = _batches({device.host_id for device in devices}, start_ms, end_ms)
    for first_ms, last_ms in batches.values_list("start_ms", "end_ms"):
        found.update(range(first_ms // HOUR_MS * HOUR_MS, last_ms + 1, HOUR_MS))
    return sorted(at for at in found if start_ms - HOUR_MS < at < end_ms)


def _gatherings(
    devices: Sequence[Device], numbers: Collection[int] | None, start_ms: int, end_ms: int
) -> dict[int, Gathering]:
    """Return by host what was stored of the devices; some of it lies outside of the span."""
    by_host: dict[int, set[str]] = {}
    for device in devices:
        by_host.setdefault(device.host_id, set()).add(device.uuid)
    gatherings = {host: Gathering(uuids, numbers) for host, uuids in by_host.items()}
    # Batches before chunks: what is compacted between the two is read twice and counted once, not missed. They are added
    # after them: of two that say different things of one time, the later one holds.
    batches: dict[int, list[StoredBatch]] = {}
    for row in _batches(by_host, start_ms, end_ms):
        batches.setdefault(row.host_id, []).append(row)
    _add_chunks(gatherings, devices, numbers, start_ms, end_ms)
    for host, rows in batches.items():
        stored_batches.add(gatherings[host], rows)
    return gatherings


def _batches(hosts: Collection[int], start_ms: int, end_ms: int) -> QuerySet[StoredBatch]:
    # The key begins with host and start: the longest that a batch may be bounds what is looked through.
    return StoredBatch.objects.filter(
        host__in=hosts, start_ms__gte=start_ms - wire.MAX_SPAN_MS, start_ms__lt=end_ms, end_ms__gte=start_ms
    ).order_by("host_id", "epoch", "sequence")


def _add_chunks(
    gatherings: Mapping[int, Gathering],
    devices: Sequence[Device],
    numbers: Collection[int] | None,
    start_ms: int,
    end_ms: int,
) -> None:
    by_pk = {device.pk: device for device in devices}
    rows = Chunk.objects.filter(device__in=by_pk, start_ms__gt=start_ms - HOUR_MS, start_ms__lt=end_ms)
    for device_id, at_ms, body in rows.values_list("device_id", "start_ms", "body").iterator(chunk_size=100):
        device = by_pk[device_id]
        try:
            gatherings[device.host_id].add_hour(device.uuid, chunks.decode(bytes(body), numbers))
        except chunks.ChunkCorrupt as error:
            chunks.warn_corrupt(device.uuid, at_ms, error)


def _series(found: Gathered, start_ms: int, end_ms: int) -> Iterator[tuple[tuple[str, str], Samples]]:
    """Yield the series in order of time: those of two clocks may overlap, after the wall clock was set back."""
    inside = np.flatnonzero((found.times_ms >= start_ms) & (found.times_ms < end_ms))
    inside = inside[np.argsort(found.times_ms[inside], kind="stable")]
    times, clocks, interval = found.times_ms[inside], found.clocks[inside], found.seconds[inside] * 1000
    for row, (uuid, number) in enumerate(found.series):
        metric = catalog.BY_NUMBER[number]
        steps, present = found.steps[row, inside], found.present[row, inside]
        if present.all():
            at, of, every = times, clocks, interval
        else:
            at, of, every, steps = times[present], clocks[present], interval[present], steps[present]
        if at.size:
            values = matrix.in_base_units(steps, metric.resolution)
            yield (uuid, metric.name), Samples(at, values, of, round(float(every.max())))


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


def of_device(device: Device, metric: str, start_ms: int, end_ms: int) -> Samples:
    """Return every stored sample of a device's metric with start ≤ time < end."""
    found = raw([device], [metric], start_ms, end_ms)
    return found.get((device.uuid, metric), Samples.none())


def counter_growth(found: Samples) -> tuple[NDArray[np.int64], Floats]:
    """Return when and by how much a counter grew: times `(m,)` of the later samples, growths `(m,)`.

    A fall is a reset and adds nothing. Between two clocks, and across more than `reach_ms`, nothing is counted.
    """
    order = np.lexsort((found.times_ms, found.clocks))
    times, values, clocks = found.times_ms[order], found.values[order], found.clocks[order]
    growth = np.diff(values)
    counts = (np.diff(clocks) == 0) & (np.diff(times) <= reach_ms(found.interval_ms))
    return times[1:][counts], np.where(growth < 0, 0.0, growth)[counts]
