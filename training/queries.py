"""The read side of training: reference jobs, their results and steps. Views and API ask here and render."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import QuerySet

from training.models import ACTIVE_STATES, ReferenceJob, Step
from training.workload import Workload
from training.workloads import WORKLOADS

MAX_POINTS = 4_000


def workloads() -> list[Workload]:
    return list(WORKLOADS.values())


def jobs(*, host: str = "", workload: str = "", active: bool | None = None) -> QuerySet[ReferenceJob]:
    """Return jobs, newest first, with host and device."""
    found = ReferenceJob.objects.select_related("host", "device").order_by("-created_at", "-pk").defer("log")
    if host:
        found = found.filter(host__name=host)
    if workload:
        found = found.filter(workload=workload)
    if active is not None:
        found = found.filter(state__in=ACTIVE_STATES) if active else found.exclude(state__in=ACTIVE_STATES)
    return found


@dataclass(frozen=True, slots=True)
class StepColumns:
    """The steps of a run in order, each `(n_steps,)`; `every` > 1 where only each so many-th step is shown."""

    number: list[int]
    ended_ms: list[int]
    seconds: list[float]
    loss: list[float | None]
    is_warmup: list[bool]
    every: int = 1


def steps(job: ReferenceJob) -> StepColumns:
    """Return the step timings that have arrived for a job so far."""
    if job.run_id is None:
        return StepColumns([], [], [], [], [])
    rows: Sequence[tuple[int, int, float, float | None, bool]] = list(
        Step.objects.filter(run_id=job.run_id, rank=0)
        .order_by("number")
        .values_list("number", "ended_ms", "seconds", "loss", "is_warmup")
    )
    every = max(1, -(-len(rows) // MAX_POINTS))
    number, ended_ms, seconds, loss, is_warmup = (
        (list(column) for column in zip(*rows[::every], strict=True)) if rows else ([], [], [], [], [])
    )
    return StepColumns(number, ended_ms, seconds, loss, is_warmup, every)
