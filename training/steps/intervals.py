"""Sets of time as disjoint intervals: union, what lies between, length. Times are float64 milliseconds. Pure numpy."""

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Intervals(NamedTuple):
    """`starts (n,)` and `ends (n,)`, ascending, no two touching."""

    starts: Floats
    ends: Floats

    @classmethod
    def of(cls, starts: Floats, ends: Floats) -> Self:
        """Return the union of these intervals, in any order and overlapping as they like; empty ones add nothing."""
        real = ends > starts
        if not real.all():
            starts, ends = starts[real], ends[real]
        if not starts.size:
            return cls(np.empty(0), np.empty(0))
        if (starts[1:] < starts[:-1]).any():
            order = np.argsort(starts, kind="stable")
            starts, ends = starts[order], ends[order]
        reach = np.maximum.accumulate(ends)
        is_new = starts[1:] > reach[:-1]
        return cls(starts[np.concatenate(([True], is_new))], reach[np.concatenate((is_new, [True]))])

    def __or__(self, other: "Intervals") -> "Intervals":
        return Intervals.of(np.concatenate((self.starts, other.starts)), np.concatenate((self.ends, other.ends)))

    def within(self, start: float, end: float) -> "Intervals":
        """Return the part between two times."""
        if not self.starts.size or (start <= self.starts[0] and self.ends[-1] <= end):
            return self
        return Intervals.of(np.maximum(self.starts, start), np.minimum(self.ends, end))

    def between(self, start: float, end: float) -> "Intervals":
        """Return what the set leaves of the time from `start` to `end`."""
        inside = self.within(start, end)
        starts, ends = np.concatenate(([start], inside.ends)), np.concatenate((inside.starts, [end]))
        real = ends > starts
        return Intervals(starts[real], ends[real])

    def chosen(self, mask: NDArray[np.bool_]) -> "Intervals":
        return Intervals(self.starts[mask], self.ends[mask])

    @property
    def lengths(self) -> Floats:
        return self.ends - self.starts

    @property
    def length(self) -> float:
        return float(self.lengths.sum())
