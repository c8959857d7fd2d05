"""Durations that a workload takes within its steps, by name, of the measured steps only. No torch."""

import math
import statistics
from collections import defaultdict


class Timings:
    """Collects durations in seconds; `clear` when the warm-up is over."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[float]] = defaultdict(list)

    def add(self, name: str, seconds: float) -> None:
        self._seconds[name].append(seconds)

    def clear(self) -> None:
        self._seconds.clear()

    def count(self, name: str) -> int:
        return len(self._seconds[name])

    def total(self, name: str) -> float:
        return math.fsum(self._seconds[name])

    def median(self, name: str) -> float:
        return statistics.median(self._seconds[name])

    def p99(self, name: str) -> float:
        """Return the 99th percentile: the smallest duration that at least 99 % do not exceed."""
        ordered = sorted(self._seconds[name])
        return ordered[math.ceil(0.99 * len(ordered)) - 1]
