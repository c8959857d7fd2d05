"""What idle devices wasted, from the rollups: hours where they are made, quarters of an hour at both ends. For the accounts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from telemetry import catalog
from telemetry.store import made_hours, rolled
from telemetry.store.energy_rows import quarters_of, shared_out
from telemetry.store.idle_quarters import ALLOCATED, FREE, QUARTER_MS, STEP, UNKNOWN
from telemetry.store.made_hours import HOUR_MS
from telemetry.store.rolled import Table
from telemetry.store.samples import Floats
from telemetry.store.statistics import ENERGY, Field, Whole

ARGUMENTS = (ALLOCATED, FREE, UNKNOWN)
_UTILISATION = catalog.BY_NAME["gpu_utilization_ratio"].number
_HOSTS = 50  # in memory at once
_FIELDS = (Field.COUNT, Field.COVERED_MILLISECONDS, Field.IDLE_MILLIJOULES, Field.IDLE_MILLISECONDS)
_DRAWN = (Field.MEASURED_MILLIJOULES, Field.ESTIMATED_MILLIJOULES)


class IdleRows(NamedTuple):
    """One host's: `device_ids (d,)`, `starts_ms (n,)` of buckets of `step_ms`; by argument joules and seconds `(d, n)`.

    The host is the one that they were in then: a device may have moved since.

    `known_seconds (d, n)` are those of buckets in which both energy and utilisation are known, as far as the energy is;
    `known_joules (d, n)` what the devices drew in those, wasted or not; 0 unless it was asked for.
    """

    host_id: int
    device_ids: NDArray[np.int64]
    starts_ms: NDArray[np.int64]
    step_ms: int
    joules: Mapping[int, Floats]
    seconds: Mapping[int, Floats]
    known_seconds: Floats
    known_joules: Floats

    def of_buckets(self, places: list[int]) -> "IdleRows":
        """Return those buckets only."""
        return self._made(self.starts_ms[places], self.step_ms, lambda values: values[:, places])

    def in_quarters(self) -> "IdleRows":
        """Return hours as their quarters: shared out by time, and so estimated."""
        return self._made(*quarters_of(self.starts_ms, self.step_ms), shared_out)

    def _made(self, starts_ms: NDArray[np.int64], step_ms: int, make: Callable[[Floats], Floats]) -> "IdleRows":
        joules, seconds = (
            {argument: make(values) for argument, values in each.items()} for each in (self.joules, self.seconds)
        )
        known, drawn = make(self.known_seconds), make(self.known_joules)
        return IdleRows(self.host_id, self.device_ids, starts_ms, step_ms, joules, seconds, known, drawn)


def whole_quarters(start_ms: int, end_ms: int) -> tuple[int, int]:
    """Return the span of all quarters of an hour that the span touches."""
    return start_ms // QUARTER_MS * QUARTER_MS, -(-end_ms // QUARTER_MS) * QUARTER_MS


def read(
    host_ids: Sequence[int],
    start_ms: int,
    end_ms: int,
    *,
    with_drawn: bool = False,
    quarters_from_ms: int | None = None,
) -> Iterator[IdleRows]:
    """Yield the waste of whole quarters with start ≤ quarter < end; every quarter of a device stands in one row.

    `with_drawn` asks for `known_joules`. From `quarters_from_ms` on whole hours come by their quarters.
    """
    fields = (*_FIELDS, *_DRAWN) if with_drawn else _FIELDS
    cut = end_ms if quarters_from_ms is None else -(-quarters_from_ms // HOUR_MS) * HOUR_MS
    for hosts, parts in made_hours.parts(host_ids, start_ms, end_ms):
        for begin, end, is_made in parts:
            coarse_end = min(end, cut) if is_made else begin
            for step_seconds, first, last in ((3600, begin, coarse_end), (STEP, max(begin, coarse_end), end)):
                for at in range(0, len(hosts) if first < last else 0, _HOSTS):
                    some = hosts[at : at + _HOSTS]
                    found = rolled.of_hosts(some, step_seconds, first, last, (ENERGY, _UTILISATION), fields)
                    yield from (_rows(host, table, with_drawn=with_drawn) for host, table in found.items())


def _rows(host_id: int, table: Table, *, with_drawn: bool) -> IdleRows:
    plan = _plan(*(column.tobytes() for column in table.keys[:4]))
    none = np.zeros((plan.owners.size, table.starts_ms.size), np.int64)

    def whole(number: int, field: Field, argument: int = 0) -> Whole:
        rows, places = plan.series.get(_kind(number, field, argument), (None, None))
        if rows is None:
            return none
        if places is None:
            return table.values[rows]
        values = np.zeros_like(none)
        values[places] = table.values[rows]
        return values

    def thousandths(field: Field, argument: int = 0) -> Floats:
        found = whole(ENERGY, field, argument)
        return nothing if found is none else found / 1000

    nothing = none / 1000
    joules = {argument: thousandths(Field.IDLE_MILLIJOULES, argument) for argument in ARGUMENTS}
    seconds = {argument: thousandths(Field.IDLE_MILLISECONDS, argument) for argument in ARGUMENTS}
    is_used = whole(_UTILISATION, Field.COUNT) > 0
    known = np.where(is_used, thousandths(Field.COVERED_MILLISECONDS), 0.0)
    drawn = nothing
    if with_drawn:
        both = whole(ENERGY, Field.MEASURED_MILLIJOULES) + whole(ENERGY, Field.ESTIMATED_MILLIJOULES)
        drawn = np.where(is_used, both / 1000, 0.0)
    return IdleRows(host_id, plan.owners, table.starts_ms, table.step_ms, joules, seconds, known, drawn)


class _Plan(NamedTuple):
    """The `owners` of a table that have energy, and by kind of series its rows and where among the owners they stand.

    Of rows that all owners have the latter is None.
    """

    owners: Whole
    series: Mapping[int, tuple[Whole | slice, Whole | None]]


def _kind(number: int, field: int, argument: int) -> int:
    """Return what a row is of, its owner apart, as one number: ARGUMENTS begin with -1."""
    return (number << 16) + (field << 8) + argument + 1


@lru_cache(maxsize=4096)
def _plan(numbers: bytes, fields: bytes, arguments: bytes, owners: bytes) -> _Plan:
    """Keys stand in order; a host's tables have the same again and again."""
    number, field, argument, owner = (
        np.frombuffer(column, np.int64) for column in (numbers, fields, arguments, owners)
    )
    every = np.unique(owner[number == ENERGY])
    kinds = (number << 16) + (field << 8) + argument + 1
    kinds[~np.isin(owner, every)] = -1
    series: dict[int, tuple[Whole | slice, Whole | None]] = {}
    for kind in np.unique(kinds[kinds >= 0]).tolist():
        rows = np.flatnonzero(kinds == kind)
        if rows.size < every.size:
            series[kind] = rows, np.searchsorted(every, owner[rows])
        else:
            is_one_block = rows[-1] - rows[0] + 1 == rows.size
            series[kind] = slice(int(rows[0]), int(rows[-1]) + 1) if is_one_block else rows, None
    return _Plan(every, series)
