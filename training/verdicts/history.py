"""Change points in a history of runs: where a device became slower or faster for good. Pure numpy; no Django.

Binary segmentation on the logarithms; a split counts by a permutation test of the largest t over all splits (Matteson and James,
J. Am. Stat. Assoc. 109 (2014), use the same two ideas with another distance), so that no noise level need be known.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

FEWEST_POINTS = 30
_SHORTEST = 5  # runs on either side of a change
_PERMUTATIONS = 999
_ALPHA = 0.01
_LEAST_CHANGE = 0.01


@dataclass(frozen=True, slots=True)
class Change:
    """From run `index` on (0 is the oldest) the value is `ratio` times what it was in the segment before."""

    index: int
    ratio: float


def changes(values: Sequence[float]) -> list[Change]:
    """Return the changes in `values` (positive, oldest first); none below FEWEST_POINTS. The same values, the same answer."""
    if len(values) < FEWEST_POINTS:
        return []
    logs = np.log(np.asarray(values, np.float64))
    edges = [0, *sorted(_splits(logs, 0, np.random.default_rng(0))), len(logs)]
    levels = [float(logs[a:b].mean()) for a, b in pairwise(edges)]
    steps = zip(edges[1:-1], pairwise(levels), strict=True)
    found = [Change(index, float(np.exp(after - before))) for index, (before, after) in steps]
    return [change for change in found if abs(change.ratio - 1) >= _LEAST_CHANGE]


def _splits(logs: NDArray[np.float64], offset: int, rng: np.random.Generator) -> list[int]:
    if len(logs) < 2 * _SHORTEST or np.ptp(logs) == 0:
        return []
    statistics = _split_statistics(logs[None, :])[0]
    shuffled = rng.permuted(np.tile(logs, (_PERMUTATIONS, 1)), axis=1)
    chance = _split_statistics(shuffled).max(axis=1)
    if (1 + np.count_nonzero(chance >= statistics.max())) / (_PERMUTATIONS + 1) >= _ALPHA:
        return []
    at = int(statistics.argmax()) + _SHORTEST
    return [*_splits(logs[:at], offset, rng), offset + at, *_splits(logs[at:], offset + at, rng)]


def _split_statistics(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return, for each row and each split that leaves enough on either side, the squared distance of the means, weighted."""
    n = rows.shape[1]
    left = np.arange(_SHORTEST, n - _SHORTEST + 1)
    sums = rows.cumsum(axis=1)[:, left - 1]
    mean_left, mean_right = sums / left, (rows.sum(axis=1, keepdims=True) - sums) / (n - left)
    weighted: NDArray[np.float64] = (mean_left - mean_right) ** 2 * left * (n - left) / n
    return weighted
