"""Screening one run against earlier ones by a robust z with a floor under the scale. Pure numpy; no Django.

A value is what a fresh process measured (its median step, its rate), never a single step (arXiv 2007.10899). A screen only
raises a suspicion; the verdict is training/verdicts/confirmation.py's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

CONSISTENT = 1.4826  # of the median absolute deviation with the standard deviation of a normal distribution
SCALE_FLOOR = 0.03  # of the median: a handful of runs may agree by chance, and would make any difference large
ALARM = 3.5  # in one comparison
FLEET_ALARM = 5.0  # where so many are compared at once that 3.5 would be passed by chance
FLEET_JOBS = 10  # a launch of so many jobs screens a fleet
FEWEST, FULL = 5, 10


class Standing(StrEnum):
    """How much a baseline is worth: below FEWEST runs nothing, below FULL an advice."""

    NONE = "no baseline"
    ADVISORY = "advisory"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Screen:
    """A run beside its baseline of `n` runs. `z` is positive where the run is worse; None without a baseline.

    `deviation` is better − 1: +0.02 where the run is 2 % faster than the median, whichever way the metric counts.
    """

    n: int
    standing: Standing
    value: float
    median: float | None
    scale: float | None
    z: float | None
    deviation: float | None
    alarm_at: float

    @property
    def is_alarm(self) -> bool:
        """Tell whether the run is suspiciously slow; an advisory baseline raises suspicions too, as it says."""
        return self.z is not None and self.z > self.alarm_at


def standing_of(n: int) -> Standing:
    """Return what a baseline of `n` clean runs is good for."""
    return Standing.NONE if n < FEWEST else Standing.ADVISORY if n < FULL else Standing.FULL


def screen(value: float, baseline: Sequence[float], *, is_lower_better: bool = True, alarm_at: float = ALARM) -> Screen:
    """Return how `value` stands to the clean earlier runs `baseline`, all above 0 and in one unit."""
    n = len(baseline)
    if n < FEWEST:
        return Screen(n, Standing.NONE, value, None, None, None, None, alarm_at)
    values = np.asarray(baseline, np.float64)
    median = float(np.median(values))
    scale = max(CONSISTENT * float(np.median(np.abs(values - median))), SCALE_FLOOR * median)
    worse = value - median if is_lower_better else median - value
    better = median / value if is_lower_better else value / median
    return Screen(n, standing_of(n), value, median, scale, worse / scale, better - 1, alarm_at)


def alarm_for(n_jobs: int) -> float:
    """Return the threshold for a launch of so many jobs."""
    return FLEET_ALARM if n_jobs >= FLEET_JOBS else ALARM
