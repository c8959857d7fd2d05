"""What the harness's loop took down, and the figures of speed that follow from it. No torch. Called by the harness."""

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from training.reference.work import Work


class WallClock:
    """UTC for readings of the monotonic clock, anchored once: a wall clock that is set during a job moves nothing."""

    def __init__(self) -> None:
        self._offset_seconds = time.time() - time.perf_counter()

    def utc_ms(self, monotonic_seconds: float) -> int:
        return round((monotonic_seconds + self._offset_seconds) * 1000)


@dataclass(slots=True)
class Repeat:
    """One pass over the block of measured steps: its window (perf_counter) and the durations of its steps."""

    start: float
    end: float = 0.0
    seconds: list[float] = field(default_factory=list)


@dataclass
class Measurement:
    """Losses of all steps, and the measured ones by repeat; at least one repeat once the loop has ended.

    `compute_seconds` are of all steps, none where there are no other ranks to wait for. `first_seconds` is the first step's
    duration, in which a framework chooses or compiles its kernels; `around` tells what else ran on the machine in the window.
    """

    losses: list[float] = field(default_factory=list)
    repeats: list[Repeat] = field(default_factory=list)
    compute_seconds: list[float] = field(default_factory=list)
    first_seconds: float = 0.0
    around: dict[str, float | None] = field(default_factory=dict)

    @property
    def seconds(self) -> list[float]:
        """Return the durations of all measured steps."""
        return [seconds for repeat in self.repeats for seconds in repeat.seconds]

    @property
    def window_seconds(self) -> float:
        """Return the time from the first measured step's start to the last one's end."""
        return self.repeats[-1].end - self.repeats[0].start


def figures(measurement: Measurement, work: Work, clock: WallClock, shares: int = 1) -> dict[str, Any]:
    """Return the figures of speed: N/Δt over the window from the first measured step's start to the last one's end.

    `shares` is how many ranks do as much as this one. The median step is the median of the repeats' own.
    """
    ordered = sorted(measurement.seconds)
    steps = len(ordered)
    batch_size = work.batch_size * shares
    samples = steps * batch_size
    window_seconds = measurement.window_seconds
    tokens = work.tokens_per_sample
    return {
        "model": work.model,
        "parameters": work.parameters,
        "batch_size": batch_size,
        "data": work.data,
        "measured_steps": steps,
        "measured_seconds": window_seconds,
        "samples": samples,
        "window_start_ms": clock.utc_ms(measurement.repeats[0].start),
        "window_end_ms": clock.utc_ms(measurement.repeats[-1].end),
        "samples_per_second": samples / window_seconds,
        "tokens_per_second": None if tokens is None else samples * tokens / window_seconds,
        "step_seconds_median": statistics.median(_medians(measurement)),
        "step_seconds_p95": _p95(ordered),
        "flops_per_sample": work.flops.count,
        "flops_method": work.flops.method,
        "achieved_flops_per_second": work.flops.count * samples / window_seconds,
    }


def of_repeats(measurement: Measurement, work: Work, shares: int = 1) -> dict[str, Any]:
    """Return each repeat's N/Δt and median step by its number, the rates' median, and their range over it; {} for one."""
    if len(measurement.repeats) == 1:
        return {}
    batch_size = work.batch_size * shares
    rates = [len(each.seconds) * batch_size / (each.end - each.start) for each in measurement.repeats]
    rate = statistics.median(rates)
    return {
        "repeats": len(rates),
        "repeat_samples_per_second": _by_number(rates),
        "repeat_step_seconds_median": _by_number(_medians(measurement)),
        "repeat_samples_per_second_median": rate,
        "repeat_spread_ratio": (max(rates) - min(rates)) / rate,
    }


def _p95(ordered: Sequence[float]) -> float:
    """Return the 95th percentile, interpolated as numpy does it for runs: a job's page and its run's say the same."""
    at = 0.95 * (len(ordered) - 1)
    below = math.floor(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (at - below) * (ordered[above] - ordered[below])


def _medians(measurement: Measurement) -> list[float]:
    return [statistics.median(repeat.seconds) for repeat in measurement.repeats]


def _by_number(values: list[float]) -> dict[str, float]:
    return {str(number): value for number, value in enumerate(values, 1)}
