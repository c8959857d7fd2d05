"""From the agents' messages to runs, steps and job states. Repeating a message changes nothing. No HTTP, no Celery."""

from datetime import UTC, datetime

from django.db import transaction

from fleet.models import Device, Host
from telemetry.wire import MessageInvalid
from training import wire
from training.models import FINAL_STATES, JobState, ReferenceJob, Run, Step
from training.wire import JobReport, StepTiming

_LAUNCH_PREFIX = "reference-"


def reference_launch(job_id: int) -> str:
    """Return the launch id under which a reference job's steps arrive."""
    return f"{_LAUNCH_PREFIX}{job_id}"


def ingest_steps(payload: bytes) -> int:
    """Store step timings; returns how many were sent. Raises MessageInvalid."""
    host_name, steps = wire.unpack_steps(payload)
    host = _host(host_name)
    by_run: dict[tuple[str, str], list[StepTiming]] = {}
    for step in steps:
        by_run.setdefault((step.run, step.launch), []).append(step)
    with transaction.atomic():
        for (name, launch), timings in by_run.items():
            _store_steps(_run(host, name, launch, timings), timings)
    return len(steps)


def ingest_report(payload: bytes, now: datetime) -> bool:
    """Apply a job report; False where it is older than what is known. Raises MessageInvalid."""
    report = wire.unpack_report(payload)
    host = _host(report.host)
    fields = _fields(report, now)
    # The order of reports is the host's; a job that the server gave up as lost may still turn out otherwise.
    candidates = ReferenceJob.objects.filter(pk=report.job, host=host, report_sequence__lt=report.sequence)
    if report.state in FINAL_STATES:
        candidates = candidates.exclude(state__in=[JobState.DONE, JobState.FAILED])
    else:
        candidates = candidates.exclude(state__in=[JobState.DONE, JobState.FAILED, JobState.CANCELLED])
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
        fields |= {"ended_at": at, "result": report.result}
    elif report.state == JobState.STARTING:
        fields["started_at"] = at
    return fields


def _host(name: str) -> Host:
    host = Host.objects.filter(name=name).first()
    if host is None:
        raise MessageInvalid(f"host: {name!r} is not known here")
    return host


def _run(host: Host, name: str, launch: str, timings: list[StepTiming]) -> Run:
    device = Device.objects.filter(uuid=timings[0].device_uuid).first() if timings[0].device_uuid else None
    first_ms = min(step.ended_ms - step.seconds * 1000 for step in timings)
    run, is_new = Run.objects.get_or_create(
        name=name,
        launch=launch,
        defaults={"host": host, "device": device, "started_at": datetime.fromtimestamp(first_ms / 1000, UTC)},
    )
    if is_new and launch.startswith(_LAUNCH_PREFIX) and launch.removeprefix(_LAUNCH_PREFIX).isdecimal():
        # Only the host that was given the job can speak of it.
        job_id = int(launch.removeprefix(_LAUNCH_PREFIX))
        ReferenceJob.objects.filter(pk=job_id, host=host, run=None).update(run=run)
    return run


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
