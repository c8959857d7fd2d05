"""Energy of a device between two moments: the counter's growth where there is one, else power over time.

The trapezoid never bridges a gap, and its result is marked as estimated. Energy is known only where the whole window
is covered by samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fleet.models import Device
from telemetry.store import samples
from telemetry.store.samples import Floats, Samples

_GAP_INTERVALS = 2.5  # samples further apart than this many sampling intervals have a gap between them
_MARGIN_MS = 25_000  # that gap at the slowest sampling, so that both edges find a sample
_COVERED_SHARE = 0.95  # below this the window's energy is unknown, not a part passed off as the whole


@dataclass(frozen=True, slots=True)
class Energy:
    """`joules` over `seconds` of window; None with the `reason` where unknown. `method` is counter or trapezoid."""

    joules: float | None
    seconds: float
    method: str = ""
    is_estimated: bool = False
    reason: str = ""
    is_partial: bool = False  # the window is not covered (yet): samples may still be on their way

    @property
    def mean_watts(self) -> float | None:
        return None if self.joules is None else self.joules / self.seconds


def energy_between(device: Device, start_ms: int, end_ms: int) -> Energy:
    """Return the energy of the window; its edges are interpolated between the samples on either side."""
    seconds = (end_ms - start_ms) / 1000
    found = samples.raw(
        [device], ["energy_joules_total", "power_draw_watts"], start_ms - _MARGIN_MS, end_ms + _MARGIN_MS
    )
    counter = found.get((device.uuid, "energy_joules_total"))
    if counter is not None and (joules := _from_counter(counter, start_ms, end_ms)) is not None:
        return Energy(joules, seconds, method="counter")
    power = found.get((device.uuid, "power_draw_watts"))
    if power is None:
        return Energy(None, seconds, reason=f"{device.title} gave no power and no energy reading in this window")
    joules, covered = trapezoid(power, start_ms, end_ms)
    if covered < _COVERED_SHARE * seconds:
        reason = f"power is known for {covered:.1f} s of {seconds:.1f} s only"
        return Energy(None, seconds, reason=reason, is_partial=True)
    return Energy(joules * seconds / covered, seconds, method="trapezoid", is_estimated=True)


def summed(found: Sequence[Energy]) -> Energy:
    """Return the energy of several devices over the same window, at least one; unknown where one of them is."""
    unknown = next((each for each in found if each.joules is None), None)
    if unknown is not None:
        return unknown
    methods = sorted({each.method for each in found})
    joules = sum(each.joules or 0.0 for each in found)
    is_estimated = any(each.is_estimated for each in found)
    return Energy(joules, found[0].seconds, method=", ".join(methods), is_estimated=is_estimated)


def trapezoid(power: Samples, start_ms: int, end_ms: int) -> tuple[float, float]:
    """Return (joules, covered seconds) of power samples inside the window; a gap counts nothing."""
    gaps_ms = _gaps_ms(power.intervals_ms)
    joules = covered = 0.0
    times, watts = power.times_ms, power.values
    for left, right in zip(range(times.size - 1), range(1, times.size), strict=True):
        begin, end = max(times[left], start_ms), min(times[right], end_ms)
        if end <= begin or times[right] - times[left] > gaps_ms[left]:
            continue
        first, last = np.interp([begin, end], times[left : right + 1], watts[left : right + 1])
        joules += float(first + last) / 2 * float(end - begin) / 1000
        covered += float(end - begin) / 1000
    return joules, covered


def _from_counter(counter: Samples, start_ms: int, end_ms: int) -> float | None:
    """Return the counter's growth over the window; None where an edge, a stretch, or one clock for all of it is missing."""
    left = int(np.searchsorted(counter.times_ms, start_ms, side="right")) - 1
    right = int(np.searchsorted(counter.times_ms, end_ms, side="left"))
    if left < 0 or right >= counter.times_ms.size:
        return None
    around = slice(left, right + 1)
    times, values, clocks = counter.times_ms[around], counter.values[around], counter.clocks[around]
    has_gap = (np.diff(times) > _gaps_ms(counter.intervals_ms[around])).any()
    if has_gap or (clocks != clocks[0]).any() or (np.diff(values) < 0).any():
        return None
    edges: Floats = np.interp([start_ms, end_ms], times, values)
    return float(edges[1] - edges[0])


def _gaps_ms(intervals_ms: NDArray[np.int64]) -> Floats:
    """Return how far each of the samples but the last may be from the next one, as in store/joules.py."""
    longest: Floats = _GAP_INTERVALS * np.maximum(intervals_ms[1:], intervals_ms[:-1])
    return longest
