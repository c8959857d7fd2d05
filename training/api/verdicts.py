"""The API of verdicts and ladders, for scripts. Included by training/api/jobs.py."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from ninja import Query, Router, Schema, Status
from pydantic import ConfigDict

from fleet.access.auth import actor_of
from fleet.api.access import OPERATOR
from fleet.api.lists import Listed, Page, page_of_query
from fleet.web.api_errors import ApiError, invalid
from training.jobs import ladder_runs
from training.jobs.launch import LaunchRefused
from training.judging import suspicion
from training.ladder.speedup import BLOCKS
from training.models import LadderRun, LadderState, LossAgreement, Outcome, Verdict

router = Router()


class VerdictItem(Schema):
    """`screens` compare the run with its own history and with the other devices of its model; `confirmation` is by fresh runs."""

    job: int
    host: str
    device: str | None
    workload: str
    outcome: Outcome
    reason: str
    is_clean: bool
    markers: list[str]
    values: dict[str, float]
    screens: list[dict[str, Any]]
    confirmation: dict[str, Any]
    is_open: bool
    fresh_jobs: list[int]
    cause: dict[str, Any] | None
    losses: LossAgreement
    losses_reason: str
    ended_at: datetime

    @classmethod
    def of(cls, verdict: Verdict) -> "VerdictItem":
        job = verdict.job
        return cls(
            job=job.pk,
            host=job.host.name,
            device=job.device.uuid if job.device else None,
            workload=job.workload,
            outcome=Outcome(verdict.outcome),
            reason=verdict.reason,
            is_clean=verdict.is_clean,
            markers=verdict.markers,
            values=verdict.values,
            screens=verdict.screens,
            confirmation=verdict.confirmation,
            is_open=verdict.is_open,
            fresh_jobs=[fresh.job_id for fresh in verdict.fresh_runs.all()],
            cause=verdict.cause or None,
            losses=LossAgreement(verdict.agreement),
            losses_reason=verdict.agreement_reason,
            ended_at=verdict.ended_at,
        )


class VerdictFilter(Page):
    host: str = ""
    workload: str = ""
    outcome: Outcome | None = None
    losses: LossAgreement | None = None


@router.get("/reference/verdicts", response=Listed[VerdictItem])
def verdicts(request: HttpRequest, asked: Query[VerdictFilter]) -> Listed[VerdictItem]:
    """List verdicts, the newest run first."""
    found = _verdicts()
    wanted = {
        "job__host__name": asked.host,
        "job__workload": asked.workload,
        "outcome": asked.outcome,
        "agreement": asked.losses,
    }
    for name, value in wanted.items():
        found = found.filter(**{name: value}) if value else found
    return page_of_query(found.order_by("-ended_at", "-pk"), asked, VerdictItem.of)


@router.get("/reference/jobs/{int:job_id}/verdict", response=VerdictItem)
def verdict(request: HttpRequest, job_id: int) -> VerdictItem:
    """Show the verdict on a job."""
    return VerdictItem.of(_verdict(job_id))


@router.post("/reference/jobs/{int:job_id}/confirm", response=VerdictItem, auth=OPERATOR)
def confirm(request: HttpRequest, job_id: int) -> VerdictItem:
    """Have a job's result confirmed by fresh runs, one after the other while its host is idle."""
    try:
        suspicion.ask(_verdict(job_id), timezone.now(), actor_of(request))
    except suspicion.NotConfirmable as refusal:
        raise ApiError(409, "not_confirmable", str(refusal)) from refusal
    return VerdictItem.of(_verdict(job_id))


class LadderOrder(Schema):
    """`blocks` is how often each rung is run; `params` are what all rungs share; `device` is a UUID."""

    model_config = ConfigDict(extra="forbid")

    workload: str
    host: str
    params: dict[str, Any] = {}
    device: str = ""
    blocks: int = BLOCKS


class LadderItem(Schema):
    """`rungs` are bottom first: k with its interval over the first, steady and with compilation included."""

    id: int
    workload: str
    host: str
    device: str | None
    state: LadderState
    reason: str
    blocks: int
    rungs: list[dict[str, Any]]
    jobs: list[int]
    requested_by: str
    created_at: datetime
    ended_at: datetime | None

    @classmethod
    def of(cls, run: LadderRun) -> "LadderItem":
        return cls(
            id=run.pk,
            workload=run.workload,
            host=run.host.name,
            device=run.device.uuid if run.device else None,
            state=LadderState(run.state),
            reason=run.reason,
            blocks=len(run.order),
            rungs=[asdict(rung) for rung in ladder_runs.result(run)],
            jobs=list(run.processes.values_list("job_id", flat=True)),
            requested_by=run.requested_by,
            created_at=run.created_at,
            ended_at=run.ended_at,
        )


@router.get("/reference/ladders", response=Listed[LadderItem])
def ladders(request: HttpRequest, page: Query[Page]) -> Listed[LadderItem]:
    """List ladders, newest first."""
    return page_of_query(LadderRun.objects.select_related("host", "device"), page, LadderItem.of)


@router.post("/reference/ladders", response={201: LadderItem}, auth=OPERATOR)
def start_ladder(request: HttpRequest, order: LadderOrder) -> Status[LadderItem]:
    """Begin a ladder on one device of a host."""
    try:
        run = ladder_runs.start(
            order.workload, order.host, order.params, actor=actor_of(request), now=timezone.now(), n_blocks=order.blocks,
            device_uuid=order.device,
        )  # fmt: skip
    except LaunchRefused as error:
        if error.is_busy:
            raise ApiError(409, "host_busy", str(error), "host") from error
        raise invalid("host" if error.field == "hosts" else error.field, str(error)) from error
    return Status(201, LadderItem.of(run))


@router.get("/reference/ladders/{int:ladder_id}", response=LadderItem)
def ladder(request: HttpRequest, ladder_id: int) -> LadderItem:
    """Show a ladder, with its result so far."""
    return LadderItem.of(_ladder(ladder_id))


@router.post("/reference/ladders/{int:ladder_id}/cancel", response=LadderItem, auth=OPERATOR)
def cancel_ladder(request: HttpRequest, ladder_id: int) -> LadderItem:
    """End a ladder and the process that runs."""
    if not ladder_runs.cancel(_ladder(ladder_id), actor=actor_of(request), now=timezone.now()):
        raise ApiError(409, "already_ended", f"ladder {ladder_id} has ended: there is nothing to cancel")
    return LadderItem.of(_ladder(ladder_id))


def _verdicts() -> QuerySet[Verdict]:
    return (
        Verdict.objects.select_related("job__host", "job__device")
        .prefetch_related("fresh_runs")
        .defer("losses", "agreement_detail", "job__log")
    )


def _verdict(job_id: int) -> Verdict:
    found = _verdicts().filter(job__pk=job_id).first()
    if found is None:
        raise ApiError(404, "not_found", f"there is no verdict on a reference job {job_id}", "job_id")
    return found


def _ladder(ladder_id: int) -> LadderRun:
    found = LadderRun.objects.select_related("host", "device").filter(pk=ladder_id).first()
    if found is None:
        raise ApiError(404, "not_found", f"there is no ladder {ladder_id}", "ladder_id")
    return found
