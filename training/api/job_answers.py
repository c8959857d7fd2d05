"""What training's API answers, made from jobs, results and steps. Called by training/api/jobs.py."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from ninja import Schema

from fleet.models import Origin
from training.jobs.queries import JobSteps
from training.jobs.rank_steps import Pace
from training.models import JobState, ReferenceJob
from training.workloads.params import Param
from training.workloads.workload import Workload


class ParamItem(Schema):
    """`minimum` and `maximum` belong to an integer, `choices` to a choice."""

    name: str
    label: str
    kind: Literal["integer", "choice"]
    default: int | str
    help: str
    minimum: int | None
    maximum: int | None
    choices: list[str]

    @classmethod
    def of(cls, param: Param) -> "ParamItem":
        bounds = (param.minimum, param.maximum) if param.kind == "integer" else (None, None)
        return cls(
            name=param.name,
            label=param.label,
            kind=param.kind,
            default=param.default,
            help=param.help,
            minimum=bounds[0],
            maximum=bounds[1],
            choices=list(param.choices),
        )


class WorkloadItem(Schema):
    """One that `is_distributable` may be launched with `mode` distributed."""

    name: str
    title: str
    summary: str
    stresses: str
    about: str
    needs: str
    is_training: bool
    is_distributable: bool
    sizes: dict[str, str]
    flops: str
    sample_unit: str
    time_limit_seconds: int
    params: list[ParamItem]

    @classmethod
    def of(cls, workload: Workload) -> "WorkloadItem":
        return cls(
            name=workload.name,
            title=workload.title,
            summary=workload.summary,
            stresses=workload.stresses,
            about=workload.about,
            needs=workload.needs,
            is_training=workload.is_training,
            is_distributable=workload.is_distributable,
            sizes=dict(workload.sizes),
            flops=workload.flops,
            sample_unit=workload.sample_unit,
            time_limit_seconds=workload.time_limit_seconds,
            params=[ParamItem.of(param) for param in workload.params],
        )


class Links(Schema):
    self: str
    steps: str
    log: str
    cancel: str
    page: str


class RankItem(Schema):
    """A rank of a distributed job. The seconds are medians of its latest measured steps, null before the first.

    `compute_seconds` is a step's part before it waits for other ranks.
    """

    rank: int
    job: int
    host: str
    device: str | None
    state: JobState
    reason: str
    stage: str
    step: int
    step_seconds: float | None
    compute_seconds: float | None
    log: str

    @classmethod
    def of(cls, job: ReferenceJob, pace: Pace) -> "RankItem":
        return cls(
            rank=job.rank,
            job=job.pk,
            host=job.host.name,
            device=job.device.uuid if job.device else None,
            state=JobState(job.state),
            reason=job.reason,
            stage=job.stage,
            step=max(job.step, pace.step),
            step_seconds=pace.step_seconds,
            compute_seconds=pace.compute_seconds,
            log=_links(job.pk).log,
        )


class JobItem(Schema):
    """A job; `origin` tells a simulated host's from a real one's. `progress` is null until the host has said how many steps.

    `result` and `energy` come at the end. `forced` is why it was to run although its device was in use or short of memory,
    "" where it was not forced.
    `world_size` is null for a job that runs alone; `ranks` are told of a distributed job that is asked for by itself.
    """

    id: int
    launch: str
    workload: str
    host: str
    origin: Origin
    device: str | None
    device_model: str | None
    params: dict[str, Any]
    requested_by: str
    forced: str
    state: JobState
    reason: str
    stage: str
    step: int
    total_steps: int | None
    progress: float | None
    result: dict[str, Any] | None
    energy: dict[str, Any] | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    cancel_requested_at: datetime | None
    expires_at: datetime
    time_limit_seconds: int
    world_size: int | None
    rank: int | None
    ranks: list[RankItem] | None
    links: Links

    @classmethod
    def of(
        cls, job: ReferenceJob, ranks: Sequence[ReferenceJob] | None = None, paces: Sequence[Pace] | None = None
    ) -> "JobItem":
        team = job.team
        return cls(
            id=job.pk,
            launch=job.launch,
            workload=job.workload,
            host=job.host.name,
            origin=Origin(job.host.origin),
            device=job.device.uuid if job.device else None,
            device_model=job.device.model if job.device else None,
            params=job.params,
            requested_by=job.requested_by,
            forced=job.forced,
            state=JobState(job.state),
            reason=job.reason,
            stage=job.stage,
            step=job.step,
            total_steps=job.total_steps or None,
            progress=job.step / job.total_steps if job.total_steps else None,
            result=job.result or None,
            energy=job.energy or None,
            created_at=job.created_at,
            started_at=job.started_at,
            ended_at=job.ended_at,
            cancel_requested_at=job.cancel_requested_at,
            expires_at=job.expires_at,
            time_limit_seconds=job.time_limit_seconds,
            world_size=team.world_size if team else None,
            rank=job.rank if team else None,
            ranks=_ranks(ranks, paces) if team and ranks is not None else None,
            links=_links(job.pk),
        )


def _ranks(jobs: Sequence[ReferenceJob], paces: Sequence[Pace] | None) -> list[RankItem]:
    """Return the ranks; one whose host was removed is missing."""
    return [RankItem.of(job, paces[job.rank] if paces else Pace()) for job in jobs]


def _links(job_id: int) -> Links:
    api = f"/api/v1/reference/jobs/{job_id}"
    return Links(self=api, steps=f"{api}/steps", log=f"{api}/log", cancel=f"{api}/cancel", page=f"/reference/{job_id}/")


class ResultItem(Schema):
    """A result; of a distributed job, whose `world_size` is not null, that of all ranks, with rank 0's host and device."""

    job: int
    workload: str
    host: str
    origin: Origin
    device: str | None
    device_model: str | None
    ended_at: datetime | None
    params: dict[str, Any]
    result: dict[str, Any]
    energy: dict[str, Any] | None
    world_size: int | None

    @classmethod
    def of(cls, job: ReferenceJob) -> "ResultItem":
        return cls(
            job=job.pk,
            workload=job.workload,
            host=job.host.name,
            origin=Origin(job.host.origin),
            device=job.device.uuid if job.device else None,
            device_model=job.device.model if job.device else None,
            ended_at=job.ended_at,
            params=job.params,
            result=job.result,
            energy=job.energy or None,
            world_size=job.team.world_size if job.team else None,
        )


class StepsAnswer(Schema):
    """Each list `(n_steps,)`; `every` > 1 where only each so many-th step is shown."""

    step: list[int]
    time_ms: list[int]
    seconds: list[float]
    loss: list[float | None]
    is_warmup: list[bool]
    every: int

    @classmethod
    def of(cls, columns: JobSteps) -> "StepsAnswer":
        return cls(
            step=columns.number,
            time_ms=columns.ended_ms,
            seconds=columns.seconds,
            loss=columns.loss,
            is_warmup=columns.is_warmup,
            every=columns.every,
        )
