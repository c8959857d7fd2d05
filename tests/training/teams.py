"""Distributed jobs in the database, and what their hosts' agents say of them."""

from datetime import datetime
from functools import partial
from itertools import count

from django.test import TestCase
from django.utils import timezone

from fleet.access.audit import Actor
from fleet.models import DeviceKind, Host
from tests.training.reference_jobs import ready_host
from training.jobs import ingest, launch
from training.message import wire
from training.models import ReferenceJob

ADA = Actor("ada")
MEETING = "10.1.2.3 4567"
committed = partial(TestCase.captureOnCommitCallbacks, execute=True)  # what is sent after a commit is sent at its end
_sequences = count(1)


def distributed(*names: str, **fields: object) -> list[ReferenceJob]:
    """Return the ranks of a new distributed job on the CPUs of the hosts, which are made where they are missing."""
    for name in names:
        if not Host.objects.filter(name=name).exists():
            ready_host(name, DeviceKind.CPU)
    wanted = [(name, "") for name in names]
    return launch.launch_selected(fields.pop("workload", "gpt-train"), wanted, {}, actor=ADA, as_one=True, **fields)


def say(job: ReferenceJob, state: str, reason: str = "", now: datetime | None = None, **fields: object) -> ReferenceJob:
    """Have the job's host report; returns the job as it is then."""
    now = now or timezone.now()
    with committed():
        ingest.ingest_report(job.host, report(job, state, now, reason, **fields), now)
    return now_of(job)


def report(job: ReferenceJob, state: str, now: datetime, reason: str = "", **fields: object) -> bytes:
    """Return what the job's host sends."""
    at_ms = int(now.timestamp() * 1000)
    return wire.pack(
        wire.JobReport(job.pk, job.launch, job.host.name, next(_sequences), state, at_ms, reason, **fields)
    )


def now_of(job: ReferenceJob) -> ReferenceJob:
    return ReferenceJob.objects.select_related("host", "device", "team").get(pk=job.pk)


def running(*names: str) -> list[ReferenceJob]:
    """Return the ranks of a distributed job that all run."""
    jobs = distributed(*names)
    say(jobs[0], "starting", meeting=MEETING)
    return [say(job, "running", stage="measure", step=3, total_steps=45) for job in jobs]
