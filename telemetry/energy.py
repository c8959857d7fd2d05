"""Energy of a device between two moments: the counter's growth where there is one, else power over time.

The trapezoid never bridges a gap, and its result is marked as estimated. Energy is known only where the whole window
is covered by samples.
"""

from dataclasses import dataclass

import numpy as np
from django.conf import settings

from fleet.models import Device
from telemetry.store import read
from telemetry.store.read import Floats, Samples

_COVERED_SHARE = 0.95  # below this the window's energy is unknown, not a part passed off as the whole


@dataclass(frozen=True, slots=True)
class Energy:
    """`joules` over `seconds` of window; None with the `reason` where unknown. `method` is counter or trapezoid."""

    joules: float | None
    seconds: float
    method: str = ""
    is_estimated: bool = False
    reason: str = ""

    @property
    def mean_watts(self) -> float | None:
        return None if self.joules is None else self.joules / self.seconds


def energy_between(device: Device, start_ms: int, end_ms: int) -> Energy:
    """Return the energy of the window; its edges are interpolated between the samples on either side."""
    seconds = (end_ms - start_ms) / 1000
    gap_ms = int(2.5 * settings.STEPWATT_SAMPLE_SECONDS * 1000)
    found = read.raw([device], ["energy_joules_total", "power_draw_watts"], start_ms - gap_ms, end_ms + gap_ms)
    counter = found.get((device.uuid, "energy_joules_total"))
    if counter is not None and (joules := _from_counter(counter, start_ms, end_ms, gap_ms)) is not None:
        return Energy(joules, seconds, method="counter")
    power = found.get((device.uuid, "power_draw_watts"))
    if power is None:
        return Energy(None, seconds, reason=f"{device.title} gave no power and no energy reading in this window")
    joules, covered = trapezoid(power, start_ms, end_ms, gap_ms)
    if covered < _COVERED_SHARE * seconds:
        return Energy(None, seconds, reason=f"power is known for {covered:.1f} s of {seconds:.1f} s only")
    return Energy(joules * seconds / covered, seconds, method="trapezoid", is_estimated=True)


def trapezoid(power: Samples, start_ms: int, end_ms: int, gap_ms: int) -> tuple[float, float]:
    """Return (joules, covered seconds) of power samples inside the window; a step longer than `gap_ms` counts nothing."""
    joules = covered = 0.0
    times, watts = power.times_ms, power.values
    for left, right in zip(range(times.size - 1), range(1, times.size), strict=True):
        begin, end = max(times[left], start_ms), min(times[right], end_ms)
        if end <= begin or times[right] - times[left] > gap_ms:
            continue
        first, last = np.interp([begin, end], times[left : right + 1], watts[left : right + 1])
        joules += float(first + last) / 2 * float(end - begin) / 1000
        covered += float(end - begin) / 1000
    return joules, covered


def _from_counter(counter: Samples, start_ms: int, end_ms: int, gap_ms: int) -> float | None:
    """Return the counter's growth over the window; None where a sample is missing around an edge or the counter was reset."""
    times, values = counter.times_ms, counter.values
    if times.size < 2 or times[0] > start_ms or times[-1] < end_ms:
        return None
    if (np.diff(times) > gap_ms).any() or (np.diff(values) < 0).any():
        return None
    edges: Floats = np.interp([start_ms, end_ms], times, values)
    return float(edges[1] - edges[0])
