"""Reference jobs that nobody plans: without result, with nonsense in it, with a device that is gone; short ladders. For tests.

Each is a function of the time that it is now, which stores them.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from fleet.models import DeviceKind, Host
from tests.training.pages import PARAMS, RESULT
from tests.training.reference_jobs import existing_job, ready_host
from training.jobs.ingest import ingest_report
from training.message import wire
from training.message.wire import JobReport
from training.models import JobState, LadderProcess, LadderRun, LadderState, ReferenceJob

NONSENSE = (None, "text", 0, -1, 1e308, {"a": 1}, 2**63 - 1)


def job(now: datetime, name: str = "a", state: JobState = JobState.DONE, kind: DeviceKind = DeviceKind.NVIDIA,
        **fields: object) -> ReferenceJob:  # fmt: skip
    """Return a job that has ended some minutes ago."""
    host = Host.objects.filter(name=name).first() or ready_host(name, kind)
    n = ReferenceJob.objects.count()
    ended = {"started_at": now - timedelta(minutes=6), "ended_at": now - timedelta(minutes=5) + timedelta(seconds=n)}
    usual = {"launch": f"l{n}", "params": PARAMS, "energy": {"reason": "none"}, "result": RESULT}
    return existing_job(host, state, **{**usual, **ended, **fields})


def _nonsense(now: datetime) -> None:
    for value in NONSENSE:
        _ends_with(now, dict.fromkeys(RESULT, value))


def _ends_with(now: datetime, result: dict[str, object]) -> None:
    """Have the host tell that: what it tells of is checked as it comes."""
    running = job(now, state=JobState.RUNNING, ended_at=None, result={})
    at_ms = int(now.timestamp() * 1000) - 1
    told = JobReport(running.pk, running.launch, running.host.name, 1, JobState.DONE, at_ms, result=result)
    assert ingest_report(running.host, wire.pack(told), now)


def _one_of_many_failed(now: datetime) -> None:
    for n in range(3):
        job(now, f"h{n}", launch="same")
    job(now, "h3", JobState.FAILED, launch="same", reason="<b>CUDA</b> out of memory", result={})


def _ladders(now: datetime) -> None:
    host = ready_host("a")
    rungs = [{"name": "eager", "params": {}}, {"name": "compile", "params": {}}]
    usual = {"workload": "gpt-train", "host": host, "params": {}, "requested_by": "ada", "created_at": now}
    whole = LadderRun.objects.create(device=host.devices.first(), rungs=rungs, order=[[0, 1]], **usual)
    for rung, changed in enumerate(({}, {"step_seconds_median": None})):
        LadderProcess.objects.create(ladder=whole, block=0, rung=rung, job=job(now, result=RESULT | changed))
    LadderRun.objects.create(rungs=[], order=[], state=LadderState.FAILED, reason="why", ended_at=now, **usual)
    LadderRun.objects.create(rungs=rungs[:1], order=[[0]], **usual)


JOBS: dict[str, Callable[[datetime], object]] = {
    "no result": lambda now: _ends_with(now, {}),
    "no figures": lambda now: job(now, result=dict.fromkeys(RESULT)),
    "nonsense": _nonsense,
    "one of many failed": _one_of_many_failed,
    "one host on a CPU": lambda now: job(now, kind=DeviceKind.CPU),
    "device gone": lambda now: job(now, device=None),
    "queued": lambda now: job(now, state=JobState.QUEUED, ended_at=None, started_at=None, result={}, energy={}),
    "running": lambda now: job(now, state=JobState.RUNNING, ended_at=None, result={}, energy={}),
    "energy to come": lambda now: job(now, energy={}),
    "no energy used": lambda now: job(
        now, energy={"joules": 0, "mean_watts": 0, "samples_per_joule": None, "method": "x"}
    ),
    "lost": lambda now: job(now, state=JobState.LOST, result={}),
    "unknown workload": lambda now: job(now, workload="old-thing", params={}),
    "ladders": _ladders,
}
