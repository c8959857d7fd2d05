"""The buckets in which step times are counted for Prometheus. Stored counts are in this order: a change needs a migration."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BOUNDS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


def counts(seconds: NDArray[np.float64]) -> list[int]:
    """Return how many step times lie in each bucket, its bound included, and in the one above the last bound."""
    places = np.searchsorted(BOUNDS_SECONDS, seconds, side="left")
    found: list[int] = np.bincount(places, minlength=len(BOUNDS_SECONDS) + 1).tolist()
    return found


def summed(one: Sequence[int], other: Sequence[int]) -> list[int]:
    """Return the counts of both; one that is empty counts nothing."""
    return [a + b for a, b in zip(one, other, strict=True)] if one and other else list(one or other)
