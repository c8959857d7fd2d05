"""Whose energy a device's is while several runs use it: shared out by the time of their steps. Pure numpy, no Django.

At a moment in which some of the runs are in a step, those have equal parts of the device; in one in which none is, all that are
there have. So the parts of all runs add up to the device's energy. What a run draws more than another is not known.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.steps.columns import Floats
from training.steps.intervals import Intervals

_MOMENTS = 20_000


@dataclass(frozen=True, slots=True)
class Tenant:
    """A run on a device: when its steps were, and from when until when it was there at all."""

    steps: Intervals
    first_ms: float
    last_ms: float


def shares(tenants: Sequence[Tenant], edges_ms: Sequence[float]) -> Floats:
    """Return the part of the first tenant in each window between the edges, `(len(edges_ms) - 1,)`, each 0 to 1."""
    edges = np.asarray(edges_ms, float)
    n_each = max(1, _MOMENTS // max(1, edges.size - 1))
    inside = (np.arange(n_each) + 0.5) / n_each
    moments = (edges[:-1, None] + np.diff(edges)[:, None] * inside).ravel()
    is_there = np.array([(moments >= each.first_ms) & (moments <= each.last_ms) for each in tenants])
    is_there[0] |= ~is_there.any(axis=0)  # nobody else is known to be there
    in_step = np.array([_covers(each.steps, moments) for each in tenants])
    counts = np.where(in_step.any(axis=0), in_step, is_there)
    parts = counts[0] / counts.sum(axis=0)
    return np.asarray(parts.reshape(-1, n_each).mean(axis=1))


def _covers(found: Intervals, moments: Floats) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    if not found.starts.size:
        return np.zeros(moments.size, bool)
    place = np.searchsorted(found.starts, moments, "right") - 1
    return np.asarray((place >= 0) & (moments < found.ends[place]))
