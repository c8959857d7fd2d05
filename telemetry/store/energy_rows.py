"""The energy of devices from the rollups: hours where they are made, minutes at both ends. Called by the energy accounts."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from telemetry.models import DirtyRollup, Rollup
from telemetry.store import statistics
from telemetry.store.statistics import ENERGY, Field, Statistics

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
_LONGEST_ROW_MS = 400 * 86_400_000  # of joined rows: what begins earlier cannot reach into the range

Floats = NDArray[np.float64]


class EnergyRows(NamedTuple):
    """Joules of one host's devices: `device_ids (d,)`, `starts_ms (n,)` of buckets of `step_ms`, the others `(d, n)`."""

    device_ids: NDArray[np.int64]
    starts_ms: NDArray[np.int64]
    step_ms: int
    measured: Floats
    estimated: Floats
    covered_seconds: Floats

    def of_buckets(self, places: list[int]) -> "EnergyRows":
        """Return those buckets only."""
        parts = (values[:, places] for values in (self.measured, self.estimated, self.covered_seconds))
        return EnergyRows(self.device_ids, self.starts_ms[places], self.step_ms, *parts)


def read(host_ids: Sequence[int], start_ms: int, end_ms: int) -> Iterator[EnergyRows]:
    """Yield the energy of whole minutes with start ≤ minute < end; every minute of a device stands in one row."""
    first, last = whole_hours(start_ms, end_ms)
    spans = (
        [(3600, first, last), (60, start_ms, first), (60, last, end_ms)] if first < last else [(60, start_ms, end_ms)]
    )
    for step_seconds, begin, end in spans:
        yield from _rows(host_ids, step_seconds, begin, end)


def whole_hours(start_ms: int, end_ms: int) -> tuple[int, int]:
    """Return the span of hours that are made: up to the first one that is still to be made, or has not ended."""
    first, last = -(-start_ms // HOUR_MS) * HOUR_MS, end_ms // HOUR_MS * HOUR_MS
    waiting = DirtyRollup.objects.filter(step_seconds__gt=60, start_ms__gte=first, start_ms__lt=last)
    oldest = waiting.order_by("start_ms").values_list("start_ms", flat=True).first()
    newest = Rollup.objects.filter(step_seconds=3600, start_ms__lt=last).order_by("-start_ms").first()
    made_to = 0 if newest is None else newest.start_ms + newest.n_buckets * HOUR_MS
    return first, min(last, made_to, last if oldest is None else oldest // HOUR_MS * HOUR_MS)


def _rows(host_ids: Sequence[int], step_seconds: int, start_ms: int, end_ms: int) -> Iterator[EnergyRows]:
    if start_ms >= end_ms:
        return
    found = Rollup.objects.filter(
        host__in=host_ids, step_seconds=step_seconds, start_ms__lt=end_ms, start_ms__gte=start_ms - _LONGEST_ROW_MS
    )
    step_ms = 1000 * step_seconds
    for row_start, n, body in found.values_list("start_ms", "n_buckets", "body").iterator(chunk_size=500):
        if row_start + n * step_ms > start_ms:
            yield _energy(statistics.decode(bytes(body), row_start, step_ms, [ENERGY]), start_ms, end_ms)


def _energy(found: Statistics, start_ms: int, end_ms: int) -> EnergyRows:
    inside = (found.starts_ms >= start_ms) & (found.starts_ms < end_ms)
    owners = np.unique(found.keys.owners)
    table = {field: np.zeros((owners.size, int(inside.sum()))) for field in _FIELDS}
    for field, values in table.items():
        rows = np.flatnonzero(found.keys.fields == field)
        values[np.searchsorted(owners, found.keys.owners[rows])] = found.values[rows][:, inside] / 1000
    return EnergyRows(owners, found.starts_ms[inside], found.step_ms, *(table[field] for field in _FIELDS))


_FIELDS = (Field.MEASURED_MILLIJOULES, Field.ESTIMATED_MILLIJOULES, Field.COVERED_MILLISECONDS)
