"""Hours of one device that follow each other on one clock, put together without looking at each sample. Called by the samples.

As nearly all are: an agent runs for weeks. What was read on several clocks, or is not compacted yet, is gathered (gather.py).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from telemetry.matrix import Steps
from telemetry.store.chunks import DeviceHour

Indices = NDArray[np.int64]


class Joined(NamedTuple):
    """Readings of the metric `number` at `times_ms (n,)`, ascending; `seconds` is the longest sampling interval among them.

    Metrics that were read at the same times share one array of them.
    """

    number: int
    times_ms: Indices
    steps: Steps
    seconds: float


class _Piece(NamedTuple):
    times_ms: Indices
    steps: Steps
    seconds: float


def is_straight(hours: Sequence[DeviceHour]) -> bool:
    """Tell whether all that was read in these hours was read on one clock, at one interval within each hour."""
    clocks = {(stretch.epoch, stretch.segment) for hour in hours for stretch in hour.stretches}
    return len(clocks) <= 1 and all(len(hour.stretches) == 1 for hour in hours)


def joined(hours: Sequence[DeviceHour], start_ms: int, end_ms: int) -> Iterator[Joined]:
    """Yield what was read at start ≤ time < end, metric by metric; the hours are straight, and in order."""
    pieces: dict[int, list[_Piece]] = {}
    for hour in hours:
        first, last = np.searchsorted(hour.times_ms, [start_ms, end_ms])
        times, seconds = hour.times_ms[first:last], hour.stretches[0].sample_seconds
        for number, series in hour.series.items():
            if series.ticks is None:
                piece = _Piece(times, series.steps[first:last], seconds)
            else:
                chosen = (series.ticks >= first) & (series.ticks < last)
                piece = _Piece(hour.times_ms[series.ticks[chosen]], series.steps[chosen], seconds)
            if piece.times_ms.size:
                pieces.setdefault(number, []).append(piece)
    shared: dict[tuple[int, ...], Indices] = {}
    for number, found in pieces.items():
        key = tuple(id(piece.times_ms) for piece in found)
        if key not in shared:
            shared[key] = np.concatenate([piece.times_ms for piece in found])
        steps = np.concatenate([piece.steps for piece in found])
        yield Joined(number, shared[key], steps, max(piece.seconds for piece in found))
