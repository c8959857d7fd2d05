"""Which rank keeps the others waiting: its compute time before communication, beside the others' and its own past. Pure numpy.

In synchronous training every rank's step takes as long as the slowest one's; only what passes before communication tells them
apart. Where ranks do not tell it, no straggler can be told. docs/stragglers.md has the measured operating characteristic.

A rank is a straggler where, over a window of steps, all of these hold. The median of its distances to the others (logarithm of
its compute time over the median of the other ranks', step by step) is at least LEAST, and in both halves of the window at least
half of that (not one burst). That median lies DEVIATIONS standard errors from 0, by its own robust spread. And it lies PEERS
robust deviations from the levels of the other ranks, or it rose by half of LEAST against its own past.
"""

from dataclasses import dataclass
from math import exp, log, sqrt

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from training.runs.rank_matrix import Ranks, distances_to_others, medians, of_ranks
from training.steps.columns import Floats, StepColumns, StepKind

WINDOW = 20  # steps
LEAST = log(1.05)
DEVIATIONS = 6.0
PEERS = 3.5
_FEW = 4  # ranks, below which the levels of the others have no spread to speak of
_CONSISTENT, _OF_MEDIAN = 1.4826, 1.2533  # MAD to standard deviation; standard error of a median to that of a mean
_LEAST_SPREAD, _LEAST_SPREAD_OF_LEVELS = 0.005, 0.01
PAST = 200  # steps before the window, whose median is the rank's own past

UNTOLD = "the ranks do not tell their communication time: every rank's step looks as long as the slowest one's"


@dataclass(frozen=True, slots=True)
class Straggler:
    """A verdict over `n_steps`. `excess` is by how much longer it computes than the median of the other ranks, at their end.

    `excess_of_own` is the same against its own past, None where that is too short; `deviations` how many standard errors it is
    off. `wait_seconds` is what all others waited for it: the sum over steps by which it came after the last of them.
    """

    rank: int
    excess: float
    excess_of_own: float | None
    deviations: float
    compute_seconds: float
    others_seconds: float
    n_steps: int
    since_ms: float
    until_ms: float
    wait_seconds: float
    n_waiting: int

    @property
    def is_from_the_first(self) -> bool:
        """Tell whether it was as slow before, as far as is seen: then uneven work may be what it is."""
        return self.excess_of_own is None or self.excess_of_own < exp(LEAST / 2) - 1


@dataclass(frozen=True, slots=True)
class Judgement:
    """The stragglers, the one that costs most first; `reason` says why none can be told. `levels` is the excess by rank."""

    stragglers: tuple[Straggler, ...]
    levels: dict[int, float]
    compute_seconds: dict[int, float]
    reason: str = ""


def judge(steps: StepColumns, window: int = WINDOW) -> Judgement:
    """Return the stragglers over the last `window` steps that the ranks tell of."""
    if not (steps.kind == StepKind.TRAIN).any():
        return Judgement((), {}, {}, "no training step in this window")
    newest = _newest(steps, window + PAST)
    found = of_ranks(newest)
    reason = _cannot_tell(newest, found, window)
    if reason:
        return Judgement((), {}, {}, reason)
    distances = distances_to_others(found.compute)
    end = found.numbers.size
    levels = medians(distances[-window:])
    slow = stragglers_at(distances, window, stride=end)[-1]
    verdicts = [_verdict(found, distances, place, end - window, end, window) for place in np.flatnonzero(slow).tolist()]
    return Judgement(
        tuple(sorted(verdicts, key=lambda each: -each.wait_seconds)),
        {int(rank): exp(level) - 1 for rank, level in zip(found.ranks, levels, strict=True) if np.isfinite(level)},
        {
            int(rank): float(seconds)
            for rank, seconds in zip(found.ranks, medians(found.compute[-window:]), strict=True)
            if np.isfinite(seconds)
        },
    )


def _newest(steps: StepColumns, n_steps: int) -> StepColumns:
    """Return about the newest `n_steps` of each rank, and no fewer where evaluation lies between them."""
    n_ranks = int(steps.rank.max()) + 1
    train = np.flatnonzero(steps.kind == StepKind.TRAIN)[-(n_steps + 1) * n_ranks :]
    return steps.select(train)


def episodes(steps: StepColumns, limit: int = 20, window: int = WINDOW) -> list[Straggler]:
    """Return all that kept others waiting at some time in these steps, the costliest first, each from its onset to its end."""
    found = of_ranks(steps)
    if found.ranks.size < 2 or found.numbers.size < window:
        return []
    distances, stride = distances_to_others(found.compute), max(1, window // 4)
    slow = stragglers_at(distances, window, stride)
    ends = np.arange(found.numbers.size, window - 1, -stride)[::-1]
    verdicts = []
    for place in np.flatnonzero(slow.any(axis=0)).tolist():
        known = 0
        for first, last in _rows_of(slow[:, place]):
            end = int(ends[last])
            begin = max(known, _onset(distances[known : int(ends[first]), place]) + known)
            verdicts.append(_verdict(found, distances, place, begin, end, window))
            known = end
    return sorted(verdicts, key=lambda each: -each.wait_seconds)[:limit]


def _rows_of(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the first and last place of each unbroken row of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    return [(int(first), int(last) - 1) for first, last in edges.reshape(-1, 2)]


def _cannot_tell(steps: StepColumns, found: Ranks, window: int) -> str:
    if steps.rank.min() == steps.rank.max():
        return "a run of one rank has nobody that waits for it"
    if not np.isfinite(steps.compute_seconds[steps.kind == StepKind.TRAIN]).any():
        return UNTOLD
    if found.numbers.size < window:
        return f"{found.numbers.size} steps are told by most ranks with their compute time: a verdict needs {window}"
    return ""


def stragglers_at(distances: Floats, window: int = WINDOW, stride: int = 1) -> NDArray[np.bool_]:
    """Tell for windows that end `stride` steps apart, the last one at the end, who straggles: `(n_windows, n_ranks)`."""
    n_steps, n_ranks = distances.shape
    if n_steps < window:
        return np.zeros((0, n_ranks), bool)
    ends = np.arange(n_steps, window - 1, -stride)[::-1]
    views = sliding_window_view(distances, window, axis=0)[ends - window]
    levels = medians(views.reshape(-1, window).T).reshape(views.shape[:2])
    slow = np.zeros(levels.shape, bool)
    for at, rank in np.argwhere(levels >= LEAST).tolist():
        own_past = _past_level(distances[: ends[at] - window, rank], window)
        slow[at, rank] = _is_straggler(views[at, rank], levels[at], rank, own_past)
    return slow


def _is_straggler(distances: Floats, levels: Floats, rank: int, own_past: float | None) -> bool:
    """Judge one rank in one window: `distances (window,)` are its own, `levels (n_ranks,)` those of all."""
    level, half = float(levels[rank]), distances.size // 2
    if min(np.nanmedian(distances[:half]), np.nanmedian(distances[half:])) < LEAST / 2:
        return False
    if level < DEVIATIONS * _standard_error(distances):
        return False
    if levels.size < _FEW or (own_past is not None and level - own_past >= LEAST / 2):
        return True
    known = levels[np.isfinite(levels)]
    middle = np.median(known)
    spread = max(_CONSISTENT * float(np.median(np.abs(known - middle))), _LEAST_SPREAD_OF_LEVELS)
    return bool(level - middle >= PEERS * spread)


def _standard_error(distances: Floats) -> float:
    known = distances[np.isfinite(distances)]
    spread = max(_CONSISTENT * float(np.median(np.abs(known - np.median(known)))), _LEAST_SPREAD)
    return _OF_MEDIAN * spread / sqrt(known.size)


def _past_level(before: Floats, window: int) -> float | None:
    known = before[-PAST:]
    known = known[np.isfinite(known)]
    return float(np.median(known)) if known.size >= window else None


def _verdict(found: Ranks, distances: Floats, place: int, begin: int, end: int, window: int) -> Straggler:
    """Return the verdict on the steps from `begin` to `end`, whose last `window` say how slow it is."""
    last = slice(max(end - window, 0), end)
    own, compute = distances[last, place], found.compute[begin:end]
    level = float(np.nanmedian(own))
    others = np.delete(compute, place, axis=1)
    last_of_others = np.max(np.where(np.isfinite(others), others, -np.inf), axis=1)
    onset = begin if end - begin > window else _onset(distances[:end, place])
    past = _past_level(distances[:onset, place], window)
    return Straggler(
        rank=int(found.ranks[place]),
        excess=exp(level) - 1,
        excess_of_own=None if past is None else exp(level - past) - 1,
        deviations=level / _standard_error(own),
        compute_seconds=float(np.nanmedian(found.compute[last, place])),
        others_seconds=float(np.nanmedian(np.delete(found.compute[last], place, axis=1))),
        n_steps=end - begin,
        since_ms=float(found.ended_ms[onset]),
        until_ms=float(found.ended_ms[end - 1]),
        wait_seconds=float(np.nansum(np.clip(compute[:, place] - last_of_others, 0.0, None))),
        n_waiting=found.ranks.size - 1,
    )


def _onset(distances: Floats) -> int:
    """Return since which step it is slow: after the last at which the median of five was not."""
    if distances.size < 5:
        return 0
    fives = medians(sliding_window_view(distances, 5).T)
    before = np.flatnonzero(fives < LEAST / 2)
    return min(int(before[-1]) + 3, distances.size - 1) if before.size else 0
