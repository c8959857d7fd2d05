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
    if not grid.owners.size:
        return made
    keys, values = [made.keys.table], [made.values]
    utilisation, allocation = grid.utilisation(), grid.allocation()
    for field, amounts in (
        (Field.IDLE_MILLIJOULES, grid.millijoules()),
        (Field.IDLE_MILLISECONDS, grid.energy(Field.COVERED_MILLISECONDS)),
    ):
        for argument in (ALLOCATED, FREE, UNKNOWN):
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
        self._tables = tables
        self._first_ms = quarters.start_ms - LOOK_BACK_MS
        self._width = LOOK_BACK + quarters.values.shape[1] * QUARTER_MS // MINUTE_MS
        owners = [table.keys.owners[table.rows(ENERGY, Field.COVERED_MILLISECONDS)] for table in tables]
        self.owners: Whole = np.unique(np.concatenate(owners))

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
        free = self._of(_ALLOCATION.number, Field.MILLISECONDS, is_zero=True)
        given = self._of(_ALLOCATION.number, Field.MILLISECONDS, is_zero=False)
        return np.where((free == 0) & (given == 0), UNKNOWN, np.where(given >= free, ALLOCATED, FREE))

    def _of(self, number: int, field: Field, *, is_zero: bool = True) -> Floats:
        """Return the sum of the rows whose argument is 0, or of those whose is not; 0 where there is none."""
        found = np.zeros((self.owners.size, self._width))
        for table in self._tables:
            keys = table.keys
            rows = np.flatnonzero(
                (keys.numbers == number) & (keys.fields == field) & ((keys.arguments == 0) == is_zero)
                & np.isin(keys.owners, self.owners)
            )  # fmt: skip
            columns = (table.starts_ms - self._first_ms) // MINUTE_MS
            places = np.searchsorted(self.owners, keys.owners[rows])
            np.add.at(found, (places[:, None], columns[None, :]), table.values[rows])
        return found
