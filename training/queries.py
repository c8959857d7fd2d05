"""The read side of training: reference jobs, their results and steps. Views and API ask here and render."""

import math
from dataclasses import dataclass

import numpy as np
from django.db.models import QuerySet

from training import step_columns
from training.models import ACTIVE_STATES, ReferenceJob
from training.step_columns import StepColumns, StepKind
from training.step_store import read
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
    """Return the step timings that have arrived for a job so far."""
    found = step_columns.empty() if job.run_id is None else read.steps(job.run_id, ranks=[0]).of_kind(StepKind.TRAIN)
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
