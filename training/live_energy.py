"""What a job's device took while it measured: energy of the steps so far, and the highest of a reading. Called by its page."""

from dataclasses import dataclass

import numpy as np

from fleet.models import Device
from telemetry.accounts.energy import energy_between
from telemetry.store import samples
from training.jobs.queries import JobSteps
from training.models import ReferenceJob

_FEWEST_SECONDS = 2.0  # below that a device's second or two of samples says nothing
_NO_STEP_YET = "no measured step yet"
_LONGEST_MS = 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class SoFar:
    """Samples of the steps that telemetry covers already, and the joules of exactly their time."""

    samples: float
    joules: float
    is_estimated: bool


def so_far(job: ReferenceJob, steps: JobSteps) -> SoFar | str:
    """Return samples and joules of the measured steps, as far as the device's samples have come; else why not."""
    measured = steps.measured
    if job.device is None or len(measured) == 0 or np.isnan(measured.samples).any():
        return _NO_STEP_YET
    order = np.argsort(measured.ended_ms, kind="stable")
    ended_ms, counted = measured.ended_ms[order], measured.samples[order]
    start_ms = int(ended_ms[0] - measured.seconds[order[0]] * 1000)
    known_ms = _newest_ms(job.device, start_ms, int(ended_ms[-1]))
    n_covered = int(np.searchsorted(ended_ms, known_ms, side="right"))
    end_ms = int(ended_ms[n_covered - 1]) if n_covered else start_ms
    if end_ms - start_ms < _FEWEST_SECONDS * 1000:
        return "the samples of the measured steps are still arriving"
    found = energy_between(job.device, start_ms, end_ms)
    if not found.joules:
        return found.reason or "no energy was counted"
    return SoFar(float(counted[:n_covered].sum()), found.joules, found.is_estimated)


def highest(device: Device, metric: str, start_ms: object, end_ms: object) -> float | None:
    """Return the highest reading of the window; None where there is none, or no such window."""
    if not (isinstance(start_ms, int) and isinstance(end_ms, int) and 0 < end_ms - start_ms < _LONGEST_MS):
        return None
    found = samples.raw([device], [metric], start_ms, end_ms).get((device.uuid, metric))
    return None if found is None or not found.values.size else float(found.values.max())


def _newest_ms(device: Device, start_ms: int, end_ms: int) -> int:
    """Return the time of the newest sample of power or energy in the window, the start where there is none."""
    found = samples.raw([device], ["energy_joules_total", "power_draw_watts"], start_ms, end_ms)
    return max((int(each.times_ms[-1]) for each in found.values() if each.times_ms.size), default=start_ms)
