"""Hours of one device that follow each other on one clock, put together without looking at each sample. Called by the samples.

As nearly all are: an agent runs for weeks. What was read on several clocks, or is not compacted yet, is gathered (gather.py).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from telemetry.decoding.matrix import Steps
from telemetry.store.chunks import DeviceHour

Indices = NDArray[np.int64]


class Joined(NamedTuple):
    """Readings of the metric `number` at `times_ms (n,)`, ascending, with the sampling interval `intervals_ms (n,)` of each.

    Metrics that were read at the same times share one array of them, and one of the intervals.
    """

    number: int
    times_ms: Indices
    steps: Steps
    intervals_ms: Indices


class _Piece(NamedTuple):
    times_ms: Indices
    steps: Steps
    interval_ms: int


def is_straight(hours: Sequence[DeviceHour]) -> bool:
    """Tell whether all that was read in these hours was read on one clock, at one interval within each hour."""
    clocks = {(stretch.epoch, stretch.segment) for hour in hours for stretch in hour.stretches}
    return len(clocks) <= 1 and all(len(hour.stretches) == 1 for hour in hours)


def joined(hours: Sequence[DeviceHour], start_ms: int, end_ms: int) -> Iterator[Joined]:
    """Yield what was read at start ≤ time < end, metric by metric; the hours are straight, and in order."""
    pieces: dict[int, list[_Piece]] = {}
    for hour in hours:
        first, last = np.searchsorted(hour.times_ms, [start_ms, end_ms])
        times, interval_ms = hour.times_ms[first:last], round(1000 * hour.stretches[0].sample_seconds)
        for number, series in hour.series.items():
            if series.ticks is None:
                piece = _Piece(times, series.steps[first:last], interval_ms)
            else:
                chosen = (series.ticks >= first) & (series.ticks < last)
                piece = _Piece(hour.times_ms[series.ticks[chosen]], series.steps[chosen], interval_ms)
            if piece.times_ms.size:
                pieces.setdefault(number, []).append(piece)
    shared: dict[tuple[int, ...], tuple[Indices, Indices]] = {}
    for number, found in pieces.items():
        key = tuple(id(piece.times_ms) for piece in found)
        if key not in shared:
            sizes = [piece.times_ms.size for piece in found]
            intervals = np.repeat(np.array([piece.interval_ms for piece in found], np.int64), sizes)
            shared[key] = np.concatenate([piece.times_ms for piece in found]), intervals
        times, intervals = shared[key]
        yield Joined(number, times, np.concatenate([piece.steps for piece in found]), intervals)
