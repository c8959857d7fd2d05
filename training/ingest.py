"""From the agents' messages to runs, steps and job states. Repeating a message changes nothing. No HTTP, no Celery."""

import logging
import re
from datetime import UTC, datetime

from django.db import transaction
from django.db.models import QuerySet, Value
from django.db.models.functions import Coalesce

from fleet.models import Device, Host
from telemetry.wire import MessageInvalid
from training import wire
from training.models import FINAL_STATES, JobState, ReferenceJob, Run, Step
from training.wire import JobReport, StepTiming

logger = logging.getLogger(__name__)
CANCEL_TOO_LATE = "the cancel came too late: the job was done before it could be ended"
_REFERENCE_LAUNCH = re.compile(re.escape(wire.REFERENCE_PREFIX) + r"(\d{1,18})-([A-Za-z0-9]{1,32})")
# What pages, tables and the exposition calculate with; anything else of a result is only shown.
_RESULT_NUMBERS = (
    "achieved_flops_per_second", "batch_size", "flops_per_sample", "loss_end", "loss_start", "measured_seconds",
    "measured_steps", "parameters", "peak_memory_bytes", "samples", "samples_per_second", "step_seconds_median",
    "step_seconds_p95", "threads", "tokens_per_second", "warmup_steps", "window_end_ms", "window_start_ms",
)  # fmt: skip


def reference_launch(job: ReferenceJob) -> str:
    """Return the launch id under which a reference job's steps arrive."""
    return wire.steps_launch(job.pk, job.launch)


def ingest_steps(host: Host, body: bytes) -> int:
    """Store step timings that `host` sent; returns how many. Those that cannot be used are logged. Raises MessageInvalid."""
    host_name, steps, refused = wire.unpack_steps(body)
    _check_sender(host, host_name)
    by_run: dict[tuple[str, str], list[StepTiming]] = {}
    for step in steps:
        by_run.setdefault((step.run, step.launch), []).append(step)
    n_stored = 0
    with transaction.atomic():
        for (name, launch), timings in by_run.items():
            try:
                run = _run(host, name, launch, timings)
            except MessageInvalid as error:
                refused += [str(error)] * len(timings)
                continue
            _store_steps(run, timings)
            n_stored += len(timings)
    if refused:
        logger.warning("%d step timings from %s were left out: %s", len(refused), host_name, refused[0])
    return n_stored


def ingest_report(host: Host, body: bytes, now: datetime) -> bool:
    """Apply a job report that `host` sent; False where it is older than what is known, or of no job here.

    Raises MessageInvalid.
    """
    report = wire.unpack_report(body)
    _check_sender(host, report.host)
    fields = _fields(report, now)
    # The order of reports is the host's; what the server only concluded (lost, expired, cancelled in the queue) yields to it.
    candidates = ReferenceJob.objects.filter(
        pk=report.job, launch=report.launch, host=host, report_sequence__lt=report.sequence
    ).exclude(state=JobState.DONE)
    candidates = candidates.exclude(state=JobState.FAILED, report_sequence__gte=0)
    if report.state not in FINAL_STATES:
        return bool(candidates.exclude(state=JobState.CANCELLED).update(**fields))
    if report.state == JobState.DONE:  # what the host did is true, also where it was to be cancelled
        too_late = candidates.exclude(cancel_requested_at=None).update(**fields | {"reason": CANCEL_TOO_LATE})
        if too_late:
            return True
    return bool(candidates.update(**fields))


def _fields(report: JobReport, now: datetime) -> dict[str, object]:
    at = datetime.fromtimestamp(report.at_ms / 1000, UTC)
    fields: dict[str, object] = {
        "state": report.state,
        "reason": report.reason,
        "stage": report.stage,
        "step": report.step,
        "total_steps": report.total_steps,
        "report_sequence": report.sequence,
        "heard_at": now,
        "ended_at": None,
    }
    if report.log is not None:
        fields["log"] = report.log
    if report.state in FINAL_STATES:
        fields |= {"ended_at": at, "sent_at": None, "result": _result(report)}
    else:  # the first that comes counts: one that waited at the host may have been replaced by the next
        fields["started_at"] = Coalesce("started_at", Value(at))
    return fields


def _result(report: JobReport) -> dict[str, object]:
    """Return a finished job's result with each number that is counted with, None where the host gave none."""
    if report.state != JobState.DONE:
        return report.result
    numbers = {name: _number(report.result.get(name)) for name in _RESULT_NUMBERS}
    return {**report.result, **numbers}


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _check_sender(host: Host, name: str) -> None:
    if name != host.name:
        raise MessageInvalid(f"host: {host.name} sent a message that names {name}")


def _run(host: Host, name: str, launch: str, timings: list[StepTiming]) -> Run:
    """Return the run of these steps. The ranks of a run may lie on several hosts; a reference job is its host's alone."""
    jobs = _reference_job(host, launch) if launch.startswith(wire.REFERENCE_PREFIX) else None
    device = Device.objects.filter(uuid=timings[0].device_uuid).first() if timings[0].device_uuid else None
    first_ms = min(step.ended_ms - step.seconds * 1000 for step in timings)
    run, _ = Run.objects.get_or_create(
        name=name,
        launch=launch,
        defaults={"host": host, "device": device, "started_at": datetime.fromtimestamp(first_ms / 1000, UTC)},
    )
    if jobs is not None:
        jobs.filter(run=None).update(run=run)
    return run


def _reference_job(host: Host, launch: str) -> QuerySet[ReferenceJob]:
    found = _REFERENCE_LAUNCH.fullmatch(launch)
    if found:
        jobs = ReferenceJob.objects.filter(pk=int(found[1]), launch=found[2], host=host)
        if jobs.exists():
            return jobs
    raise MessageInvalid(f"launch: {host.name} was given no reference job whose steps are {launch!r}")


def _store_steps(run: Run, timings: list[StepTiming]) -> None:
    rows = [
        Step(
            run=run, rank=step.rank, number=step.number, ended_ms=step.ended_ms, seconds=step.seconds,
            samples=step.samples, tokens=step.tokens, loss=step.loss, is_warmup=step.is_warmup,
        )
        for step in timings
    ]  # fmt: skip
    Step.objects.bulk_create(rows, ignore_conflicts=True)
    newest = datetime.fromtimestamp(max(step.ended_ms for step in timings) / 1000, UTC)
    Run.objects.filter(pk=run.pk).exclude(last_step_at__gte=newest).update(last_step_at=newest)
