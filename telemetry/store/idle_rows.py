"""What idle devices wasted, from the rollups: hours where they are made, quarters of an hour at both ends. For the accounts."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from telemetry import catalog
from telemetry.store import made_hours, rolled
from telemetry.store.idle_quarters import ALLOCATED, FREE, QUARTER_MS, STEP, UNKNOWN
from telemetry.store.rolled import Table
from telemetry.store.samples import Floats
from telemetry.store.statistics import ENERGY, Field

ARGUMENTS = (ALLOCATED, FREE, UNKNOWN)
_UTILISATION = catalog.BY_NAME["gpu_utilization_ratio"].number
_HOSTS = 50  # in memory at once
_FIELDS = (Field.COUNT, Field.COVERED_MILLISECONDS, Field.IDLE_MILLIJOULES, Field.IDLE_MILLISECONDS)
_DRAWN = (Field.MEASURED_MILLIJOULES, Field.ESTIMATED_MILLIJOULES)


class IdleRows(NamedTuple):
    """One host's: `device_ids (d,)`, `starts_ms (n,)` of buckets of `step_ms`; by argument joules and seconds `(d, n)`.

    `known_seconds (d, n)` are those of buckets in which both energy and utilisation are known, as far as the energy is;
    `known_joules (d, n)` what the devices drew in those, wasted or not; 0 unless it was asked for.
    """

    device_ids: NDArray[np.int64]
    starts_ms: NDArray[np.int64]
    step_ms: int
    joules: Mapping[int, Floats]
    seconds: Mapping[int, Floats]
    known_seconds: Floats
    known_joules: Floats


def whole_quarters(start_ms: int, end_ms: int) -> tuple[int, int]:
    """Return the span of all quarters of an hour that the span touches."""
    return start_ms // QUARTER_MS * QUARTER_MS, -(-end_ms // QUARTER_MS) * QUARTER_MS


def read(host_ids: Sequence[int], start_ms: int, end_ms: int, *, with_drawn: bool = False) -> Iterator[IdleRows]:
    """Yield the waste of whole quarters with start ≤ quarter < end; every quarter of a device stands in one row.

    `with_drawn` asks for `known_joules`.
    """
    fields = (*_FIELDS, *_DRAWN) if with_drawn else _FIELDS
    for hosts, parts in made_hours.parts(host_ids, start_ms, end_ms):
        for begin, end, is_made in parts:
            for at in range(0, len(hosts), _HOSTS):
                some, step_seconds = hosts[at : at + _HOSTS], 3600 if is_made else STEP
                found = rolled.of_hosts(some, step_seconds, begin, end, (ENERGY, _UTILISATION), fields)
                yield from map(_rows, found.values())


def _rows(table: Table) -> IdleRows:
    keys = table.keys
    owners = np.unique(keys.owners[keys.numbers == ENERGY])
    none = np.zeros((owners.size, table.starts_ms.size))
    # What a row is of, its owner apart, as one number: ARGUMENTS begin with -1.
    kinds = (keys.numbers << 16) + (keys.fields << 8) + keys.arguments + 1
    kinds[~np.isin(keys.owners, owners)] = -1

    def of(number: int, field: Field, argument: int = 0) -> Floats:
        rows = np.flatnonzero(kinds == (number << 16) + (field << 8) + argument + 1)
        if rows.size == owners.size:  # keys stand in order
            return table.values[rows].astype(np.float64)
        if not rows.size:
            return none
        found = np.zeros_like(none)
        found[np.searchsorted(owners, keys.owners[rows])] = table.values[rows]
        return found

    joules = {argument: of(ENERGY, Field.IDLE_MILLIJOULES, argument) / 1000 for argument in ARGUMENTS}
    seconds = {argument: of(ENERGY, Field.IDLE_MILLISECONDS, argument) / 1000 for argument in ARGUMENTS}
    covered, counts = of(ENERGY, Field.COVERED_MILLISECONDS) / 1000, of(_UTILISATION, Field.COUNT)
    drawn = (of(ENERGY, Field.MEASURED_MILLIJOULES) + of(ENERGY, Field.ESTIMATED_MILLIJOULES)) / 1000
    known = (np.where(counts > 0, values, 0.0) for values in (covered, drawn))
    return IdleRows(owners, table.starts_ms, table.step_ms, joules, seconds, *known)
