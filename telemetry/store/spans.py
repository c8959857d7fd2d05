"""Times in which something holds. Pure."""

import numpy as np
from numpy.typing import NDArray

Spans = tuple[tuple[int, int], ...]
"""Times from ≤ t < until, in ms, apart and ascending."""


def inside(spans: Spans, times_ms: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which of the times `(n,)` lie in the spans."""
    found = np.zeros(times_ms.size, np.bool_)
    for since, until in spans:
        found |= (times_ms >= since) & (times_ms < until)
    return found
