"""Finished jobs of comparable devices, judged in the order in which they ended."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from fleet.models import Device, DeviceKind, Host
from tests.training.pages import RESULT
from tests.training.reference_jobs import existing_job, ready_host
from tests.training.stored_steps import columns, put
from training.jobs.teams import gather
from training.judging.judge import judge
from training.models import JobState, ReferenceJob, Run, Team, Verdict
from training.workloads.catalog import validate

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
MODEL = "A board"
PARAMS = validate("gpt-train", {})[1]
SPREAD = [1.0, 1.01, 0.99, 1.005, 0.995, 1.008, 0.992, 1.002, 0.998, 1.0]


def board(name: str) -> Host:
    host = ready_host(name, DeviceKind.NVIDIA)
    Device.objects.filter(host=host).update(model=MODEL)
    return host


def result(seconds: float, **changes: object) -> dict[str, object]:
    return RESULT | {
        "step_seconds_median": seconds, "device_name": MODEL, "batch_size": 16, "precision": "bf16", "measured_seconds": 10.0,
        "window_start_ms": 1_000_000, "window_end_ms": 1_010_000, "threads": 8, "samples": 640,
        "samples_per_second": 16 / seconds,
        "versions": {"python": "3.11.2", "torch": "2.13.0", "driver": "580.1"},
    } | changes  # fmt: skip


def finished(host: Host, seconds: float = 1.0, minutes: float = 0.0, **fields) -> ReferenceJob:
    """Return a job that ended `minutes` after NOW with that median step."""
    changes, losses = fields.pop("result", {}), fields.pop("losses", None)
    params = PARAMS | fields.pop("params", {})
    ended = NOW + timedelta(minutes=minutes)
    job = existing_job(
        host, JobState.DONE, launch=f"l{ReferenceJob.objects.count()}", params=params, result=result(seconds, **changes),
        energy={"reason": "none"}, created_at=ended, started_at=ended, ended_at=ended, **fields,
    )  # fmt: skip
    if losses is not None:
        run = Run.objects.create(name="reference gpt-train", launch=f"reference-{job.pk}", host=host)
        put(run, columns(*[0.1] * len(losses), number=range(1, len(losses) + 1), loss=losses))
        job.run = run
        job.save()
    return job


def judged(host: Host, seconds: float = 1.0, minutes: float = 0.0, **fields) -> Verdict:
    return judge(finished(host, seconds, minutes, **fields), NOW + timedelta(minutes=minutes))


def together(hosts: Sequence[Host], seconds: float = 1.0, minutes: float = 0.0, **fields) -> Verdict:
    """Return the verdict of a distributed job of one rank on each host."""
    jobs = [finished(host, seconds, minutes, **fields) for host in hosts]
    Team.objects.filter(pk=gather(jobs).pk).update(is_settled=True)
    for job in jobs:
        job.launch = jobs[0].launch
        job.save()
    return judge(jobs[0], NOW + timedelta(minutes=minutes))


def with_history(host: Host, n: int = 10, level: float = 1.0, start: float = -1000.0) -> Host:
    """Give a host `n` judged runs about `level`, a minute apart."""
    for i in range(n):
        judged(host, level * SPREAD[i % len(SPREAD)], start + i)
    return host
