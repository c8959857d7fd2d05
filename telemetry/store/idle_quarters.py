"""What idle devices waste in each quarter of an hour, by who had them: made of its minutes, and of some before it.

Called by the rollups, and by whoever checks them. Pure but for `before`. Hours are sums of quarters, as all of a rollup is.
"""

from collections.abc import Collection, Sequence

import numpy as np

from telemetry import catalog
from telemetry.store import rolled, statistics
from telemetry.store.idle import LOOK_BACK, booked
from telemetry.store.rolled import Table
from telemetry.store.samples import Floats
from telemetry.store.statistics import ENERGY, Field, Statistics, Whole

STEP = 900
MINUTE_MS, QUARTER_MS = 60_000, 900_000
LOOK_BACK_MS = LOOK_BACK * MINUTE_MS
ALLOCATED, FREE, UNKNOWN = 1, 0, -1  # arguments of the rows

_UTILISATION = catalog.BY_NAME["gpu_utilization_ratio"]
_ALLOCATION = catalog.BY_NAME["allocation"]
_NUMBERS = (ENERGY, _UTILISATION.number, _ALLOCATION.number)


def before(hosts: Collection[int], first_ms: int) -> dict[int, Table]:
    """Return the minutes before `first_ms` that idle stretches may have begun in, by host id."""
    return rolled.of_hosts(hosts, MINUTE_MS // 1000, first_ms - LOOK_BACK_MS, first_ms, _NUMBERS)


def with_idle(made: Statistics, minutes: Table, earlier: Table | None) -> Statistics:
    """Return the quarters with what is wasted in each: they were made of `minutes`, and `earlier` is `before`'s."""
    grid = _Minutes([table for table in (earlier, minutes) if table is not None], made)
    utilisation = grid.utilisation()
    if not booked(utilisation, np.ones_like(utilisation)).any():
        return made  # as it is with most that work
    keys, values, allocation = [made.keys.table], [made.values], grid.allocation()
    for field, amounts in (
        (Field.IDLE_MILLIJOULES, grid.millijoules()),
        (Field.IDLE_MILLISECONDS, grid.energy(Field.COVERED_MILLISECONDS)),
    ):
        for argument in np.unique(allocation).tolist():
            wasted = booked(utilisation, np.where(allocation == argument, amounts, 0.0))
            quarters = np.rint(wasted).astype(np.int64).reshape(grid.owners.size, made.values.shape[1], -1).sum(axis=2)
            filled = np.flatnonzero(quarters.any(axis=1))
            rows = [(ENERGY, field, argument, owner) for owner in grid.owners[filled].tolist()]
            keys.append(np.array(rows, np.int64).reshape(-1, 4))
            values.append(quarters[filled])
    return statistics.ordered(np.concatenate(keys), np.concatenate(values), made.start_ms, made.step_ms)


class _Minutes:
    """Minutes from LOOK_BACK before the quarters to their end: `(d, w)` of the devices `owners (d,)` that have energy."""

    def __init__(self, tables: Sequence[Table], quarters: Statistics) -> None:
        self._width = LOOK_BACK + quarters.values.shape[1] * QUARTER_MS // MINUTE_MS
        first_ms = quarters.start_ms - LOOK_BACK_MS
        self._parts = [(*_of_interest(table), (table.starts_ms - first_ms) // MINUTE_MS) for table in tables]
        energies = [keys[keys[:, 0] == ENERGY, 3] for keys, _, _ in self._parts]
        self.owners: Whole = np.unique(np.concatenate(energies))

    def energy(self, field: Field) -> Floats:
        return self._of(ENERGY, field)

    def millijoules(self) -> Floats:
        return self.energy(Field.MEASURED_MILLIJOULES) + self.energy(Field.ESTIMATED_MILLIJOULES)

    def utilisation(self) -> Floats:
        """Return each minute's mean, NaN where it has no sample."""
        counts, sums = self._of(_UTILISATION.number, Field.COUNT), self._of(_UTILISATION.number, Field.SUM)
        found: Floats = np.where(counts > 0, sums * _UTILISATION.resolution / np.maximum(counts, 1), np.nan)
        return found

    def allocation(self) -> Whole:
        """Return by whom most of each minute was had, as far as it is known."""
        free = self._of(_ALLOCATION.number, Field.MILLISECONDS)
        given = self._of(_ALLOCATION.number, Field.MILLISECONDS, is_zero=False)
        return np.where((free == 0) & (given == 0), UNKNOWN, np.where(given >= free, ALLOCATED, FREE))

    def _of(self, number: int, field: Field, *, is_zero: bool = True) -> Floats:
        """Return the sum of the rows whose argument is 0, or of those whose is not; 0 where there is none."""
        found = np.zeros((self.owners.size, self._width))
        for keys, values, columns in self._parts:
            rows = (keys[:, 0] == number) & (keys[:, 1] == field) & ((keys[:, 2] == 0) == is_zero)
            rows &= np.isin(keys[:, 3], self.owners)
            places = np.searchsorted(self.owners, keys[rows, 3])
            for place, of_minutes in zip(places.tolist(), values[rows], strict=True):
                found[place, columns] += of_minutes
        return found


def _of_interest(table: Table) -> tuple[Whole, Whole]:
    """Return the keys `(k, 4)` and values `(k, n)` of the metrics that waste is made of: a few of some hundred rows."""
    rows = np.flatnonzero(np.isin(table.keys.numbers, _NUMBERS))
    keys = (table.keys.numbers[rows], table.keys.fields[rows], table.keys.arguments[rows], table.keys.owners[rows])
    return np.stack(keys, axis=1), table.values[rows]
