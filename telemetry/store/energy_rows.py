"""The energy of devices from the rollups: hours where they are made, minutes at both ends. Called by the energy accounts."""

from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from telemetry.store import made_hours, rolled
from telemetry.store.made_hours import HOUR_MS
from telemetry.store.rolled import Table
from telemetry.store.statistics import ENERGY, Field

MINUTE_MS = 60_000
_QUARTER = 900
_ROUNDED_SECONDS = 0.0005  # what stands in rollups is whole milliseconds: their sums in seconds may differ by less
_HOSTS = 50  # in memory at once
_FIELDS = (Field.MEASURED_MILLIJOULES, Field.ESTIMATED_MILLIJOULES, Field.COVERED_MILLISECONDS)

Floats = NDArray[np.float64]


class EnergyRows(NamedTuple):
    """Joules of one host's devices: `device_ids (d,)`, `starts_ms (n,)` of buckets of `step_ms`, the others `(d, n)`.

    The host is the one that they were in then: a device may have moved since.
    """

    host_id: int
    device_ids: NDArray[np.int64]
    starts_ms: NDArray[np.int64]
    step_ms: int
    measured: Floats
    estimated: Floats
    covered_seconds: Floats

    def of_buckets(self, places: list[int]) -> "EnergyRows":
        """Return those buckets only."""
        parts = (values[:, places] for values in (self.measured, self.estimated, self.covered_seconds))
        return EnergyRows(self.host_id, self.device_ids, self.starts_ms[places], self.step_ms, *parts)

    def in_quarters(self) -> "EnergyRows":
        """Return hours as their quarters: shared out by time, and so estimated."""
        starts, step_ms = quarters_of(self.starts_ms, self.step_ms)
        drawn, covered = shared_out(self.measured + self.estimated), shared_out(self.covered_seconds)
        return EnergyRows(self.host_id, self.device_ids, starts, step_ms, np.zeros_like(drawn), drawn, covered)


def quarters_of(starts_ms: NDArray[np.int64], step_ms: int) -> tuple[NDArray[np.int64], int]:
    """Return when the quarters of buckets `(n,)` begin, `(4 n,)`, and how long they are."""
    quarter_ms = step_ms // 4
    return (starts_ms[:, None] + quarter_ms * np.arange(4)).reshape(-1), quarter_ms


def shared_out(values: Floats) -> Floats:
    """Return what a quarter of each bucket has of the values `(…, n)`, `(…, 4 n)`."""
    return np.repeat(values / 4, 4, axis=-1)


def read(
    host_ids: Sequence[int], start_ms: int, end_ms: int, *, quarters_from_ms: int | None = None,
    split: Collection[int] = (),
) -> Iterator[EnergyRows]:  # fmt: skip
    """Yield the energy of whole minutes with start ≤ minute < end; every minute of a device stands in one row.

    From `quarters_from_ms` on whole hours come by their quarters: for what changes within an hour. Of the quarters that begin
    at `split` the minutes come, as long as they are all there.
    """
    cut = end_ms if quarters_from_ms is None else -(-quarters_from_ms // HOUR_MS) * HOUR_MS
    for hosts, parts in made_hours.parts(host_ids, start_ms, end_ms):
        for begin, end, is_made in parts:
            steps = [(3600, begin, min(end, cut)), (900, max(begin, cut), end)] if is_made else [(60, begin, end)]
            for step, first, last in steps:
                quarters = sorted(at for at in split if first <= at < last) if step == _QUARTER else []
                yield from _split(hosts, first, last, quarters) if quarters else of_step(hosts, step, first, last)


def _split(host_ids: Sequence[int], start_ms: int, end_ms: int, split: Sequence[int]) -> Iterator[EnergyRows]:
    """Yield the quarters of the time, but the minutes of those that begin at `split` where they tell as much."""
    for at in range(0, len(host_ids), _HOSTS):
        some = host_ids[at : at + _HOSTS]
        minutes: dict[int, dict[int, EnergyRows]] = {}
        for quarter in split:
            for rows in of_step(some, 60, quarter, quarter + 1000 * _QUARTER):
                minutes.setdefault(rows.host_id, {})[quarter] = rows
        for rows in of_step(some, _QUARTER, start_ms, end_ms):
            kept, finer = [], minutes.get(rows.host_id, {})
            for place, quarter in enumerate(rows.starts_ms.tolist()):
                covered = float(rows.covered_seconds[:, place].sum())
                if quarter in finer and float(finer[quarter].covered_seconds.sum()) >= covered - _ROUNDED_SECONDS:
                    yield finer[quarter]
                else:
                    kept.append(place)
            yield rows.of_buckets(kept)


def of_step(host_ids: Sequence[int], step_seconds: int, start_ms: int, end_ms: int) -> Iterator[EnergyRows]:
    """Yield what the rollups of one resolution tell of the buckets that begin in start ≤ time < end."""
    for at in range(0, len(host_ids) if start_ms < end_ms else 0, _HOSTS):
        tables = rolled.of_hosts(host_ids[at : at + _HOSTS], step_seconds, start_ms, end_ms, [ENERGY], _FIELDS)
        yield from (_energy(host, table) for host, table in tables.items())


def _energy(host_id: int, found: Table) -> EnergyRows:
    plan = _plan(found.keys.fields.tobytes(), found.keys.owners.tobytes())
    columns = []
    for rows, places in zip(plan.rows, plan.places, strict=True):
        if places is None:
            columns.append(found.values[rows] / 1000)
            continue
        if not places.size:
            columns.append(_nothing(plan.owners.size, found.starts_ms.size))
            continue
        values = np.zeros((plan.owners.size, found.starts_ms.size))
        values[places] = found.values[rows] / 1000
        columns.append(values)
    return EnergyRows(host_id, plan.owners, found.starts_ms, found.step_ms, *columns)


class _Plan(NamedTuple):
    """Where a table of energy has each of _FIELDS, and at which of the owners its rows stand; None where all have one."""

    owners: NDArray[np.int64]
    rows: list[slice]
    places: list[NDArray[np.int64] | None]


@lru_cache(maxsize=4096)
def _plan(fields: bytes, owners: bytes) -> _Plan:
    """Keys stand in order of field and owner; a host's tables have the same again and again."""
    of_field, of_owner = np.frombuffer(fields, np.int64), np.frombuffer(owners, np.int64)
    every = np.unique(of_owner)
    bounds = (np.searchsorted(of_field, [field, field + 1]).tolist() for field in map(int, _FIELDS))
    rows = [slice(first, last) for first, last in bounds]
    owned = (of_owner[each] for each in rows)
    return _Plan(every, rows, [None if own.size == every.size else np.searchsorted(every, own) for own in owned])


@lru_cache(maxsize=64)
def _nothing(n_owners: int, n: int) -> Floats:
    """Return zeros that nobody may change: most hosts have no energy that was estimated."""
    found = np.zeros((n_owners, n))
    found.flags.writeable = False
    return found
