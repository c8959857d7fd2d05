"""From the agents' reports to the states of jobs. Repeating a message changes nothing. No HTTP, no Celery."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from django.db import transaction
from django.db.models import Q, Value
from django.db.models.functions import Coalesce

from fleet.models import Host
from telemetry.message.wire import MessageInvalid
from telemetry.receiving import authentic
from training.jobs import teams
from training.message import wire
from training.message.wire import JobReport
from training.models import FINAL_STATES, JobState, Outcome, ReferenceJob, Verdict
from training.runs import job_runs

logger = logging.getLogger(__name__)

CANCEL_TOO_LATE = "the cancel came too late: the job was done before it could be ended"
# What pages, tables and the exposition calculate with; anything else of a result is only shown.
_RESULT_NUMBERS = (
    "achieved_flops_per_second", "batch_size", "batch_size_of_a_rank", "compute_seconds_median", "first_step_seconds",
    "flops_per_sample", "foreign_cores", "involuntary_context_switches", "longest_wait_share", "loss_end", "loss_start",
    "measured_seconds", "measured_steps", "parameters", "peak_memory_bytes", "rank", "ranks", "repeat_samples_per_second_median",
    "repeat_spread_ratio", "repeats", "samples", "samples_per_second", "step_seconds_median", "step_seconds_p95", "threads",
    "tokens_per_second", "warmup_steps", "window_end_ms", "window_start_ms",
)  # fmt: skip


@transaction.atomic
def ingest_reports(payloads: Sequence[bytes], now: datetime) -> None:
    """Apply reports in their order, in one transaction: of a launch on many hosts one comes from each every second."""
    for host, body in authentic.admit_all(payloads, wire.REPORT_TASK, now):
        try:
            ingest_report(host, body, now)
        except MessageInvalid as error:
            logger.warning("a job report was refused: %s", error)


def ingest_report(host: Host, body: bytes, now: datetime) -> bool:
    """Apply a job report that `host` sent; False where it is older than what is known, or of no job here.

    Raises MessageInvalid.
    """
    report = wire.unpack_report(body)
    _check_sender(host, report.host)
    is_applied = _apply(host, report, now)
    if is_applied:
        teams.heard(report, now)
        if report.state in FINAL_STATES:  # what was said of a job that was given up is not true any more
            Verdict.objects.filter(job=report.job, outcome=Outcome.FAILED).delete()
            job_runs.end(Q(reference_job=report.job), now)
    return is_applied


def _apply(host: Host, report: JobReport, now: datetime) -> bool:
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
        fields["sent_at"] = Coalesce("sent_at", Value(now))  # its host took an order that was taken back meanwhile
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
