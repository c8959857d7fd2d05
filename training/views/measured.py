"""What a reference job measured, or has measured so far: each figure with its note, or with why it is missing.

Called by the job page. Final figures are the harness's own (`job.result`, `job.energy`); running ones come from the steps
that have arrived. The two are never mixed.
"""

from dataclasses import dataclass
from datetime import datetime
from math import ceil
from statistics import median

import numpy as np

from telemetry import queries as telemetry_queries
from training.models import JobState, ReferenceJob
from training.queries import JobSteps
from training.step_columns import Floats
from training.workloads import WORKLOADS

_STILL_TO_COME = "the last samples of the measured window are still arriving"
_AT_THE_END = "counted when the job is done"
_NO_LOSS = "the workload trains nothing"
_NO_STEP_YET = "no measured step yet"
_NO_RESULT = "no result: the job did not finish"


@dataclass(frozen=True, slots=True)
class Figure:
    """A value in the base unit `unit`; where it is None, `why` says so. The note may end in a value of its own."""

    label: str
    value: float | None
    unit: str
    why: str
    note: str = ""
    note_value: float | None = None
    note_unit: str = ""


@dataclass(frozen=True, slots=True)
class Speed:
    """Rates over the measured steps, None before the first one. Losses count the warm-up, as learning begins there."""

    samples_per_second: float | None = None
    tokens_per_second: float | None = None
    median_seconds: float | None = None
    p95_seconds: float | None = None
    loss_start: float | None = None
    loss_end: float | None = None


def figures(job: ReferenceJob, steps: JobSteps, now: datetime) -> list[Figure]:
    """Return the six tiles of the job page."""
    speed = _final_speed(job) if job.state == JobState.DONE else running_speed(steps)
    no_step = _NO_RESULT if job.is_final else _NO_STEP_YET
    achieved = _number(job.result.get("achieved_flops_per_second"))
    samples, tokens = speed.samples_per_second, speed.tokens_per_second
    p95, loss_start = speed.p95_seconds, speed.loss_start
    return [
        Figure("Throughput", samples, f"{sample_unit(job)}/s", no_step, "", tokens, "tokens/s"),
        Figure("Step time, median", speed.median_seconds, "seconds", no_step, "p95", p95, "seconds"),
        Figure("Achieved", achieved, "flop_per_second", _why_no_result(job), "model FLOPs ÷ time"),
        _power(job, now),
        _efficiency(job),
        Figure("Loss", speed.loss_end, "", no_step if _is_training(job) else _NO_LOSS, "from", loss_start, ""),
    ]


def running_speed(steps: JobSteps) -> Speed:
    """Return the rates so far: samples over the sum of the step times that have arrived, warm-up left out."""
    measured = sorted(steps.measured.seconds.tolist())
    losses = [loss for loss in steps.loss if loss is not None]
    start, end = (losses[0], losses[-1]) if losses else (None, None)
    if not measured:
        return Speed(loss_start=start, loss_end=end)
    return Speed(
        samples_per_second=_rate(steps.measured.samples, steps.measured.seconds),
        tokens_per_second=_rate(steps.measured.tokens, steps.measured.seconds),
        median_seconds=median(measured),
        p95_seconds=measured[ceil(0.95 * len(measured)) - 1],
        loss_start=start,
        loss_end=end,
    )


def sample_unit(job: ReferenceJob) -> str:
    """Return what the job's throughput counts; a workload that has left the catalogue counts samples."""
    workload = WORKLOADS.get(job.workload)
    return workload.sample_unit if workload else "samples"


def _is_training(job: ReferenceJob) -> bool:
    workload = WORKLOADS.get(job.workload)
    return workload is None or workload.is_training


def why_no_energy(job: ReferenceJob) -> str:
    """Return why power and samples per joule of a job are missing."""
    if job.state == JobState.DONE:
        return str(job.energy.get("reason") or _STILL_TO_COME)
    return _why_no_result(job)


def _why_no_result(job: ReferenceJob) -> str:
    return _NO_RESULT if job.is_final else _AT_THE_END


def _final_speed(job: ReferenceJob) -> Speed:
    result = job.result
    return Speed(
        samples_per_second=_number(result.get("samples_per_second")),
        tokens_per_second=_number(result.get("tokens_per_second")),
        median_seconds=_number(result.get("step_seconds_median")),
        p95_seconds=_number(result.get("step_seconds_p95")),
        loss_start=_number(result.get("loss_start")),
        loss_end=_number(result.get("loss_end")),
    )


def _rate(counted: Floats, seconds: Floats) -> float | None:
    """Return what the steps that tell of it count a second."""
    told = ~np.isnan(counted)
    return float(counted[told].sum() / seconds[told].sum()) if told.any() else None


def _power(job: ReferenceJob, now: datetime) -> Figure:
    """The mean of the measured window; while the job runs, the device's newest reading, and called so."""
    if job.is_final or job.device is None:
        watts = _number(job.energy.get("mean_watts"))
        return Figure("Power, mean", watts, "watts", why_no_energy(job), str(job.energy.get("method", "")))
    state = telemetry_queries.device_state(job.device, now)
    watts = state.values.get("power_draw_watts")
    return Figure("Power, now", watts, "watts", state.why_absent("power_draw_watts"), job.device.title)


def _efficiency(job: ReferenceJob) -> Figure:
    joules = _number(job.energy.get("joules"))
    value = _number(job.energy.get("samples_per_joule"))
    return Figure("Samples per joule", value, f"{sample_unit(job)}/J", why_no_energy(job), "energy", joules, "joules")


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
