"""The stored samples themselves, of devices and a span of time: from chunks, and from batches that are not compacted yet.

Called by the store's other parts and the energy accounts; nobody outside the store knows the layout.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from django.db.models import QuerySet
from numpy.typing import NDArray

from fleet.models import Device
from telemetry import catalog, matrix, received
from telemetry.catalog import Kind
from telemetry.models import StoredBatch

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
    """Return the stored samples with start ≤ time < end by (device uuid, metric); a series without any is left out."""
    wanted = {device.uuid for device in devices}
    by_number = {catalog.BY_NAME[name].number: catalog.BY_NAME[name] for name in metrics}
    gathered: dict[tuple[str, str], _Gathered] = {}
    clocks: dict[tuple[str, int], int] = {}
    for body in stored(devices, start_ms, end_ms).values_list("body", flat=True).iterator(chunk_size=500):
        batch, parts = received.read(bytes(body))
        clock = clocks.setdefault((batch.epoch, batch.segment), len(clocks))
        times = np.array(batch.times_ms, np.int64)
        for part in parts:
            at = times[part.ticks]
            inside = (at >= start_ms) & (at < end_ms)
            if not inside.any():
                continue
            for row in np.flatnonzero(np.isin(part.numbers, list(by_number))):
                uuid, metric = batch.devices[part.places[row]].uuid, by_number[int(part.numbers[row])]
                if uuid in wanted:
                    values = matrix.in_base_units(part.steps[row][inside], metric.resolution)
                    series = gathered.setdefault((uuid, metric.name), _Gathered())
                    series.add(at[inside], values, clock, round(batch.sample_seconds * 1000))
    return {key: series.samples() for key, series in gathered.items()}


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


def stored(devices: Sequence[Device], start_ms: int, end_ms: int) -> QuerySet[StoredBatch]:
    hosts = {device.host_id for device in devices}
    return StoredBatch.objects.filter(host__in=hosts, end_ms__gte=start_ms, start_ms__lt=end_ms).order_by("start_ms")


@dataclass(slots=True)
class _Gathered:
    times: list[NDArray[np.int64]] = field(default_factory=list)
    values: list[Floats] = field(default_factory=list)
    clocks: list[NDArray[np.int64]] = field(default_factory=list)
    interval_ms: int = 0

    def add(self, times_ms: NDArray[np.int64], values: Floats, clock: int, interval_ms: int) -> None:
        self.times.append(times_ms)
        self.values.append(values)
        self.clocks.append(np.full(times_ms.size, clock, np.int64))
        self.interval_ms = max(self.interval_ms, interval_ms)

    def samples(self) -> Samples:
        """Batches of two clocks may overlap, after the wall clock was set back: samples stand in order of time."""
        at = np.concatenate(self.times)
        order = np.argsort(at, kind="stable")
        return Samples(
            at[order], np.concatenate(self.values)[order], np.concatenate(self.clocks)[order], self.interval_ms
        )


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
