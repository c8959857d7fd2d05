"""The energy of devices from the rollups: hours where they are made, minutes at both ends. Called by the energy accounts."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from telemetry.models import DirtyRollup, Rollup
from telemetry.store import rolled
from telemetry.store.rolled import Table
from telemetry.store.statistics import ENERGY, Field

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
_HOSTS = 50  # in memory at once

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


def read(
    host_ids: Sequence[int], start_ms: int, end_ms: int, *, quarters_from_ms: int | None = None
) -> Iterator[EnergyRows]:
    """Yield the energy of whole minutes with start ≤ minute < end; every minute of a device stands in one row.

    From `quarters_from_ms` on whole hours come by their quarters: for what changes within an hour.
    """
    first, last = whole_hours(start_ms, end_ms)
    cut = last if quarters_from_ms is None else min(max(-(-quarters_from_ms // HOUR_MS) * HOUR_MS, first), last)
    inner = [(3600, first, cut), (900, cut, last)]
    spans = [*inner, (60, start_ms, first), (60, last, end_ms)] if first < last else [(60, start_ms, end_ms)]
    for step, begin, end in spans:
        yield from of_step(host_ids, step, begin, end)


def whole_hours(start_ms: int, end_ms: int) -> tuple[int, int]:
    """Return the span of hours that are made: up to the first one that is still to be made, or has not ended."""
    first, last = -(-start_ms // HOUR_MS) * HOUR_MS, end_ms // HOUR_MS * HOUR_MS
    waiting = DirtyRollup.objects.filter(step_seconds__gt=60, start_ms__gte=first, start_ms__lt=last)
    oldest = waiting.order_by("start_ms").values_list("start_ms", flat=True).first()
    newest = Rollup.objects.filter(step_seconds=3600, start_ms__lt=last).order_by("-start_ms").first()
    made_to = 0 if newest is None else newest.start_ms + newest.n_buckets * HOUR_MS
    return first, min(last, made_to, last if oldest is None else oldest // HOUR_MS * HOUR_MS)


def of_step(host_ids: Sequence[int], step_seconds: int, start_ms: int, end_ms: int) -> Iterator[EnergyRows]:
    """Yield what the rollups of one resolution tell of the buckets that begin in start ≤ time < end."""
    for at in range(0, len(host_ids) if start_ms < end_ms else 0, _HOSTS):
        tables = rolled.of_hosts(host_ids[at : at + _HOSTS], step_seconds, start_ms, end_ms, [ENERGY])
        yield from map(_energy, tables.values())


def _energy(found: Table) -> EnergyRows:
    owners = np.unique(found.keys.owners)
    columns = []
    for field in (Field.MEASURED_MILLIJOULES, Field.ESTIMATED_MILLIJOULES, Field.COVERED_MILLISECONDS):
        rows = found.rows(ENERGY, field)
        if rows.size == owners.size:  # keys stand in order
            columns.append(found.values[rows] / 1000)
            continue
        values = np.zeros((owners.size, found.starts_ms.size))
        values[np.searchsorted(owners, found.keys.owners[rows])] = found.values[rows] / 1000
        columns.append(values)
    return EnergyRows(owners, found.starts_ms, found.step_ms, *columns)
