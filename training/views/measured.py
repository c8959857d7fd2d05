"""What a reference job measured, or has measured so far: each figure with its note, or with why it is missing.

Called by the job page. Final figures are the harness's own (`job.result`, `job.energy`); running ones come from the steps
that have arrived. The two are never mixed.
"""

from dataclasses import dataclass
from datetime import datetime
from statistics import median

import numpy as np

from fleet import units
from telemetry.newest import queries as telemetry_queries
from training.jobs import live_energy, teams
from training.jobs.queries import JobSteps
from training.judging import live
from training.models import JobState, ReferenceJob
from training.steps.columns import Floats
from training.views import rank_readings
from training.workloads.catalog import WORKLOADS

_STILL_TO_COME = "the last samples of the measured window are still arriving"
_AT_THE_END = "counted when the job is done"
_POWER, _TEMPERATURE = "power_draw_watts", "temperature_celsius"
_NO_TEMPERATURE = "no temperature of the measured steps is stored"
_NO_STEP_YET = "no measured step yet"
_NO_RESULT = "no result: the job did not finish"
_NO_FLOPS = "the result counts no FLOPs"


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


def figures(job: ReferenceJob, steps: JobSteps, now: datetime, expected: tuple[float, int] | None) -> list[Figure]:
    """Return the six tiles of the job page. `expected` is the device's own earlier (median step in seconds, runs)."""
    speed = _final_speed(job) if job.state == JobState.DONE else running_speed(steps)
    no_step = _NO_RESULT if job.is_final else _NO_STEP_YET
    return [
        _throughput(job, speed, no_step, expected),
        _step_time(speed, no_step, expected),
        _achieved(job) if job.state == JobState.DONE or not _is_training(job) else _loss(speed, no_step),
        _power(job, now),
        _efficiency(job, steps, now),
        _hottest(job, now),
    ]


def _throughput(job: ReferenceJob, speed: Speed, no_step: str, expected: tuple[float, int] | None) -> Figure:
    rate, unit, step = speed.samples_per_second, f"{sample_unit(job)}/s", speed.median_seconds
    if expected is not None and step:
        so_far = "" if job.is_final else " so far"
        return Figure(
            "Throughput", rate, unit, no_step, f"{units.signed((expected[0] / step - 1) * 100)} % on baseline{so_far}"
        )
    return Figure("Throughput", rate, unit, no_step, "", speed.tokens_per_second, "tokens/s")


def _step_time(speed: Speed, no_step: str, expected: tuple[float, int] | None) -> Figure:
    if expected is not None:
        note = f"baseline, n {expected[1]},"
        return Figure("Step time, median", speed.median_seconds, "seconds", no_step, note, expected[0], "seconds")
    return Figure("Step time, median", speed.median_seconds, "seconds", no_step, "p95", speed.p95_seconds, "seconds")


def _achieved(job: ReferenceJob) -> Figure:
    achieved = _number(job.result.get("achieved_flops_per_second"))
    why = _NO_FLOPS if job.state == JobState.DONE else _why_no_result(job)
    return Figure("Achieved", achieved, "flop_per_second", why, "model FLOPs ÷ time")


def _loss(speed: Speed, no_step: str) -> Figure:
    return Figure("Loss", speed.loss_end, "", no_step, "from", speed.loss_start, "")


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
        p95_seconds=float(np.quantile(measured, 0.95)),
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
    if job.team is not None and job.rank == 0:
        ranks = teams.ranks(job)
        found, why = rank_readings.readings(ranks, _POWER, now), rank_readings.why_none(ranks, [_POWER], now)
        watts = None if why else rank_readings.total(found)
        return Figure("Power, now", watts, "watts", why, f"of {len(found)} devices")
    state = telemetry_queries.device_state(job.device, now)
    return Figure("Power, now", state.values.get(_POWER), "watts", state.why_absent(_POWER), job.device.title)


def _working(job: ReferenceJob) -> list[ReferenceJob]:
    """Return the jobs whose devices do what its page tells of: all ranks of a distributed one's rank 0, else itself."""
    return teams.ranks(job) if job.rank == 0 else [job]


def _efficiency(job: ReferenceJob, steps: JobSteps, now: datetime) -> Figure:
    """Of a job that is done its result; while it measures, of the steps so far and the energy of exactly their time."""
    unit = f"{sample_unit(job)}/J"
    if job.is_final:
        joules = _number(job.energy.get("joules"))
        value = _number(job.energy.get("samples_per_joule"))
        return Figure("Samples per joule", value, unit, why_no_energy(job), "energy", joules, "joules")
    ranks = _working(job)
    devices = rank_readings.devices(ranks)
    found = live_energy.so_far(devices, steps) if devices else _NO_STEP_YET
    if isinstance(found, str):
        why = rank_readings.why_none(ranks, [_POWER, "energy_joules_total"], now)
        return Figure("Samples per joule", None, unit, why or found)
    so_far = "so far, estimated," if found.is_estimated else "so far,"
    return Figure("Samples per joule", found.samples / found.joules, unit, "", so_far, found.joules, "joules")


def _hottest(job: ReferenceJob, now: datetime) -> Figure:
    """The device's temperature now, or the highest of the measured steps once they are over; with what held its clock down."""
    if job.device is None:
        return Figure("Hottest device", None, "celsius", "the device is no longer known")
    if job.team is not None and job.rank == 0 and not job.is_final:
        found = rank_readings.highest(rank_readings.readings(teams.ranks(job), _TEMPERATURE, now))
        where = f"{found.job.host.name} {found.job.device.title}" if found and found.job.device else ""
        return Figure(
            "Hottest device", found.value if found else None, "celsius", "no device gives its temperature", where
        )
    if not job.is_final:
        state = telemetry_queries.device_state(job.device, now)
        held = live.throttled(state.values.get("clock_event_reasons"))
        note = f"throttled: {held}" if held else job.device.title
        celsius, why = state.values.get(_TEMPERATURE), state.why_absent(_TEMPERATURE)
        return Figure("Hottest device", celsius, "celsius", why, note)
    window = job.result.get("window_start_ms"), job.result.get("window_end_ms")
    highest = live_energy.highest(job.device, _TEMPERATURE, *window)
    return Figure("Hottest device", highest, "celsius", _NO_TEMPERATURE, f"{job.device.title}, while it measured")


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
