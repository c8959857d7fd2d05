"""What a job's devices took while it measured: energy of the steps so far, and the highest of a reading. Called by its page."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fleet.models import Device
from telemetry.accounts.energy import energy_between, summed
from telemetry.store import samples
from training.jobs.queries import JobSteps

_FEWEST_SECONDS = 2.0  # below that a device's second or two of samples says nothing
_NO_STEP_YET = "no measured step yet"
_LONGEST_MS = 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class SoFar:
    """Samples of the steps that telemetry covers already, and the joules of exactly their time."""

    samples: float
    joules: float
    is_estimated: bool


def so_far(devices: Sequence[Device], steps: JobSteps) -> SoFar | str:
    """Return samples and joules of the measured steps, as far as the samples of all devices have come; else why not.

    `steps` are what the devices did together; there is at least one device.
    """
    measured = steps.measured
    if len(measured) == 0 or np.isnan(measured.samples).any():
        return _NO_STEP_YET
    order = np.argsort(measured.ended_ms, kind="stable")
    ended_ms, counted = measured.ended_ms[order], measured.samples[order]
    start_ms = int(ended_ms[0] - measured.seconds[order[0]] * 1000)
    known_ms = _newest_ms(devices, start_ms, int(ended_ms[-1]))
    n_covered = int(np.searchsorted(ended_ms, known_ms, side="right"))
    end_ms = int(ended_ms[n_covered - 1]) if n_covered else start_ms
    if end_ms - start_ms < _FEWEST_SECONDS * 1000:
        return "the samples of the measured steps are still arriving"
    found = summed([energy_between(device, start_ms, end_ms) for device in devices])
    if not found.joules:
        return found.reason or "no energy was counted"
    return SoFar(float(counted[:n_covered].sum()), found.joules, found.is_estimated)


def highest(device: Device, metric: str, start_ms: object, end_ms: object) -> float | None:
    """Return the highest reading of the window; None where there is none, or no such window."""
    if not (isinstance(start_ms, int) and isinstance(end_ms, int) and 0 < end_ms - start_ms < _LONGEST_MS):
        return None
    found = samples.raw([device], [metric], start_ms, end_ms).get((device.uuid, metric))
    return None if found is None or not found.values.size else float(found.values.max())


def _newest_ms(devices: Sequence[Device], start_ms: int, end_ms: int) -> int:
    """Return up to when every device has a sample of power or energy in the window, the start where one has none."""
    newest = {device.uuid: start_ms for device in devices}
    for (uuid, _), found in samples.raw(devices, ["energy_joules_total", "power_draw_watts"], start_ms, end_ms).items():
        if found.times_ms.size:
            newest[uuid] = max(newest[uuid], int(found.times_ms[-1]))
    return min(newest.values())
