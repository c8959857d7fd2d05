"""Jobs in every state for tests of the pages, and how to read a page."""

import re
from datetime import timedelta

from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from fleet.models import DeviceKind
from tests.training.reference_jobs import existing_job, ready_host
from tests.training.stored_steps import columns, put
from training.models import JobState, ReferenceJob, Run

LAUNCH = "/reference/?view=launch"
PARAMS = {
    "steps": 60,
    "warmup_steps": 5,
    "repeats": 1,
    "batch_size": 0,
    "precision": "auto",
    "compile": "off",
    "size": "auto",
    "seed": 1,
    "kernels": "default",
}
RESULT = {
    "model": "GPT 3M", "parameters": 3_178_496, "batch_size": 8, "data": "synthetic tokens", "measured_steps": 60,
    "measured_seconds": 20.5, "samples": 504, "window_start_ms": 1_700_000_000_000, "window_end_ms": 1_700_000_020_000,
    "samples_per_second": 504 / 20.5, "tokens_per_second": 3148.8, "step_seconds_median": 0.331, "step_seconds_p95": 0.352,
    "flops_per_sample": 2_510_000_000, "flops_method": "6N + 12·L·H·Q·T", "achieved_flops_per_second": 6.1746e10,
    "loss_start": 6.2, "loss_end": 4.9, "loss_method": "mean of the first 5 steps", "warmup_steps": 5, "seed": 1,
    "precision": "fp32", "device_name": "model cpu", "threads": 2, "peak_memory_bytes": 640_000_000,
    "peak_memory_method": "resident set", "versions": {"torch": "2.13.0"},
}  # fmt: skip
ENERGY = {"joules": 985.0, "mean_watts": 49.2, "samples_per_joule": 504 / 985, "method": "counter difference"}


def job_in(state, **fields):
    host = fields.pop("host", None) or ready_host("a", DeviceKind.CPU)
    return existing_job(host, state, **{"params": PARAMS} | fields)


def finished(**fields):
    now = timezone.now()
    times = {"started_at": now - timedelta(seconds=42), "ended_at": now}
    return job_in(JobState.DONE, **times | {"result": RESULT, "energy": ENERGY, "stage": "finish"} | fields)


def with_steps(job, *seconds, warm_up=0):
    run = Run.objects.create(name="gpt-train", launch=f"reference-{job.pk}", host=job.host)
    n_steps = len(seconds)
    told = columns(
        *seconds,
        number=range(1, n_steps + 1),
        ended_ms=[1_700_000_000_000 + i for i in range(n_steps)],
        samples=[8] * n_steps,
        tokens=[1024] * n_steps,
        loss=[5 - i / 10 for i in range(n_steps)],
        is_warmup=[i < warm_up for i in range(n_steps)],
    )
    put(run, told)
    ReferenceJob.objects.filter(pk=job.pk).update(run=run)
    return job


def form(**fields):
    return {"workload": "gpt-train", "host": ["a"], **{name: str(value) for name, value in PARAMS.items()}, **fields}


def text(response):
    """What a reader sees: without tags, gaps made one space."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


def queries_of(client):
    with CaptureQueriesContext(connection) as captured:
        client.get(LAUNCH)
    return len(captured)
