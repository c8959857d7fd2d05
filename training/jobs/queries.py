"""The read side of training: reference jobs, their results and steps. Views and API ask here and render."""

import math
from dataclasses import dataclass

import numpy as np
from django.db.models import QuerySet

from training.jobs import rank_steps
from training.jobs.rank_steps import Pace
from training.models import ACTIVE_STATES, ReferenceJob
from training.steps import columns
from training.steps.columns import StepColumns, StepKind
from training.steps.store import read
from training.workloads.catalog import WORKLOADS
from training.workloads.workload import Workload

MAX_POINTS = 4_000


def workloads() -> list[Workload]:
    return list(WORKLOADS.values())


def jobs(
    *, host: str = "", workload: str = "", active: bool | None = None, with_ranks: bool = False, cluster: str | None = None,
) -> QuerySet[ReferenceJob]:  # fmt: skip
    """Return jobs, newest first, with host and device: of a distributed one its rank 0, all ranks of a `host` or `with_ranks`.

    Those of a `cluster` are those whose host, or that of rank 0, is in it.
    """
    found = ReferenceJob.objects.select_related("host", "device", "team").order_by("-created_at", "-pk").defer("log")
    found = found if host or with_ranks else found.filter(rank=0)
    if host:
        found = found.filter(host__name=host)
    if cluster is not None:
        found = found.filter(host__cluster=cluster)
    if workload:
        found = found.filter(workload=workload)
    if active is not None:
        found = found.filter(state__in=ACTIVE_STATES) if active else found.exclude(state__in=ACTIVE_STATES)
    return found


@dataclass(frozen=True, slots=True)
class JobSteps:
    """The training steps of a job in order, each `(n_steps,)`; `every` > 1 where only each so many-th step is shown.

    `measured` has all that are no warm-up, whatever is shown.
    """

    number: list[int]
    ended_ms: list[int]
    seconds: list[float]
    loss: list[float | None]
    is_warmup: list[bool]
    every: int
    measured: StepColumns


def steps(job: ReferenceJob) -> JobSteps:
    """Return the step timings that have arrived for a job so far; of a distributed one's rank 0 those of the whole."""
    found = _steps(job)
    found = found.select(np.argsort(found.number, kind="stable"))
    every = max(1, -(-len(found) // MAX_POINTS))
    shown = found.select(slice(None, None, every))
    return JobSteps(
        number=shown.number.tolist(),
        ended_ms=np.rint(shown.ended_ms).astype(np.int64).tolist(),
        seconds=shown.seconds.tolist(),
        loss=[None if math.isnan(loss) else loss for loss in shown.loss.tolist()],
        is_warmup=shown.is_warmup.tolist(),
        every=every,
        measured=found.select(~found.is_warmup),
    )


def losses(job: ReferenceJob, most: int) -> dict[int, float | None]:
    """Return the losses of the first steps, at most so many, by step; None where a step told of none. As `steps` else."""
    found = _steps(job)
    early = found.select(found.number <= most)
    told = zip(early.number.tolist(), early.loss.tolist(), strict=True)
    return {number: None if math.isnan(loss) else loss for number, loss in told}


def paces(job: ReferenceJob) -> list[Pace]:
    """Return how each rank of a distributed job steps, by rank."""
    return [] if job.team is None else rank_steps.paces(_of_all_ranks(job), job.team.world_size)


def _steps(job: ReferenceJob) -> StepColumns:
    if job.team is not None:
        found = _of_all_ranks(job)
        return rank_steps.whole(found, job.team.world_size) if job.rank == 0 else found.of_rank(job.rank)
    if job.run_id is None:
        return columns.empty()
    return read.steps(job.run_id, ranks=[0]).of_kind(StepKind.TRAIN)


def _of_all_ranks(job: ReferenceJob) -> StepColumns:
    head = job if job.rank == 0 else ReferenceJob.objects.only("run_id").filter(team=job.team, rank=0).first()
    if head is None or head.run_id is None:
        return columns.empty()
    return read.steps(head.run_id).of_kind(StepKind.TRAIN)
