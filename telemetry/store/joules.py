"""Joules of a device in buckets of time, from its counter where it has one, else from its power. Pure; made for the rollups.

The energy between two samples is shared out to the buckets that it lies in, so that sums over any buckets agree. A gap is
not bridged, a counter that falls has been reset, and two clocks are never joined: such time is not covered. What the
counter does not cover is estimated from power by the trapezoid rule.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from telemetry.store.samples import Floats, Samples

# Samples further apart than this many sampling intervals have a gap between them; of two that were read at different ones,
# as only recordings have them on one clock, of the longer: a second recording between slow samples makes no gaps.
GAP_INTERVALS = 2.5

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class BucketJoules:
    """Each `(n,)`: joules by the counter, joules estimated from power, and the seconds that both cover together."""

    measured: Floats
    estimated: Floats
    covered_seconds: Floats


@dataclass(frozen=True, slots=True)
class _Intervals:
    """Neighbouring samples without a gap between them: `starts_ms`, `ends_ms (m,)`, with the values at either end."""

    starts_ms: Integers
    ends_ms: Integers
    first: Floats
    last: Floats

    def kept(self, keep: NDArray[np.bool_]) -> "_Intervals":
        return _Intervals(self.starts_ms[keep], self.ends_ms[keep], self.first[keep], self.last[keep])


def per_bucket(counter: Samples | None, power: Samples | None, first_ms: int, step_ms: int, n: int) -> BucketJoules:
    """Return the joules of `n` buckets of `step_ms` from `first_ms` on."""
    return between(counter, power, first_ms + step_ms * np.arange(n + 1, dtype=np.int64))


def between(counter: Samples | None, power: Samples | None, edges: Integers) -> BucketJoules:
    """Return the joules of the n buckets between the edges `(n + 1,)` ms, ascending.

    The samples reach beyond both ends by a sampling interval where there are any: edges are interpolated.
    """
    n = edges.size - 1
    grown = _intervals(counter)
    grown = grown.kept(grown.last >= grown.first)
    measured, covered = np.zeros(n), np.zeros(n)
    for bucket, low, high, rows in _pieces(grown, edges):
        seconds = (high - low) / 1000
        share = (high - low) / (grown.ends_ms[rows] - grown.starts_ms[rows])
        np.add.at(measured, bucket, (grown.last[rows] - grown.first[rows]) * share)
        np.add.at(covered, bucket, seconds)
    estimated = np.zeros(n)
    drawn, coverage = _intervals(power), _Coverage(grown)
    is_partly = coverage.milliseconds(drawn.starts_ms, drawn.ends_ms) > 0
    for bucket, low, high, rows in _pieces(drawn, edges):
        seconds = (high - low - coverage.milliseconds(low, high)) / 1000
        # Which part of an interval the counter covers says nothing of the power in the rest: there the mean stands.
        between = (_watts(drawn, rows, low) + _watts(drawn, rows, high)) / 2
        watts = np.where(is_partly[rows], (drawn.first[rows] + drawn.last[rows]) / 2, between)
        np.add.at(estimated, bucket, watts * seconds)
        np.add.at(covered, bucket, seconds)
    # Where the wall clock was set back, two stretches of real time bear the same times: both count as energy.
    return BucketJoules(measured, estimated, np.minimum(covered, np.diff(edges) / 1000))


def _intervals(found: Samples | None) -> _Intervals:
    if found is None or found.times_ms.size < 2:
        none = np.empty(0, np.int64)
        return _Intervals(none, none, np.empty(0), np.empty(0))
    order = np.lexsort((found.times_ms, found.clocks))
    times, values, clocks = found.times_ms[order], found.values[order], found.clocks[order]
    intervals = found.intervals_ms[order]
    apart, longest = np.diff(times), GAP_INTERVALS * np.maximum(intervals[1:], intervals[:-1])
    joined = (np.diff(clocks) == 0) & (apart > 0) & (apart <= longest)
    return _Intervals(times[:-1], times[1:], values[:-1], values[1:]).kept(joined)


def _pieces(intervals: _Intervals, edges: Integers) -> list[tuple[Integers, Integers, Integers, Integers]]:
    """Return (buckets, low_ms, high_ms, rows) of what lies inside the buckets: an interval in as many pieces as it needs."""
    n = edges.size - 1
    begins = np.maximum(np.searchsorted(edges, intervals.starts_ms, side="right") - 1, 0)
    ends = np.minimum(np.searchsorted(edges, intervals.ends_ms, side="left") - 1, n - 1)
    pieces = []
    for offset in range(int((ends - begins).max(initial=-1)) + 1):
        rows = np.flatnonzero(begins + offset <= ends)
        bucket = begins[rows] + offset
        low = np.maximum(intervals.starts_ms[rows], edges[bucket])
        high = np.minimum(intervals.ends_ms[rows], edges[bucket + 1])
        pieces.append((bucket, low, high, rows))
    return pieces


def _watts(intervals: _Intervals, rows: Integers, at_ms: Integers) -> Floats:
    share = (at_ms - intervals.starts_ms[rows]) / (intervals.ends_ms[rows] - intervals.starts_ms[rows])
    watts: Floats = intervals.first[rows] + (intervals.last[rows] - intervals.first[rows]) * share
    return watts


class _Coverage:
    """How much of any span of time some intervals cover, which may overlap."""

    def __init__(self, intervals: _Intervals) -> None:
        order = np.argsort(intervals.starts_ms, kind="stable")
        ends = np.maximum.accumulate(intervals.ends_ms[order])
        starts = np.maximum(intervals.starts_ms[order], np.concatenate((intervals.starts_ms[order][:1], ends[:-1])))
        self._times = np.stack((starts, np.maximum(starts, ends)), axis=1).reshape(-1)
        self._covered = np.stack((np.zeros(starts.size), np.maximum(ends - starts, 0)), axis=1).reshape(-1).cumsum()

    def milliseconds(self, low: Integers, high: Integers) -> Floats:
        if not self._times.size:
            return np.zeros(low.size)
        covered: Floats = np.interp(high, self._times, self._covered) - np.interp(low, self._times, self._covered)
        return covered
