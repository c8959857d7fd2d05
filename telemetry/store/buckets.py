"""Buckets of equal length, and rows of statistics over them. For what makes them of samples: bucketing.py, bucketed_energy.py."""

from typing import NamedTuple

from telemetry.store.gather import Indices
from telemetry.store.statistics import Whole


class Grid(NamedTuple):
    """`n` buckets of `step_ms` each, from `first_ms` on."""

    first_ms: int
    step_ms: int
    n: int

    def buckets(self, times_ms: Indices) -> Indices:
        """Return the number of the bucket that each time lies in; outside of the grid below 0, or n and more."""
        return (times_ms - self.first_ms) // self.step_ms


class Rows(NamedTuple):
    """Rows of statistics: `keys (k, 4)` number, field, argument, owner; `values (k, n)`."""

    keys: Whole
    values: Whole
