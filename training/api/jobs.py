"""Training's part of the HTTP API: the reference jobs' buttons, for scripts. Called by fleet/api/api.py, by name.

Starts and stops through training/jobs/launch.py, as the pages do; reads through training/jobs/queries.py.
"""

from typing import Any, Literal

from django.http import HttpRequest
from django.utils import timezone
from ninja import Query, Router, Schema, Status
from pydantic import ConfigDict, Field

from fleet.access.auth import actor_of
from fleet.api.access import OPERATOR
from fleet.api.lists import Listed, Page, page_of, page_of_query
from fleet.models import Host
from fleet.web.api_errors import ApiError, invalid
from training.api.baselines import router as baselines_router
from training.api.job_answers import JobItem, ResultItem, StepsAnswer, WorkloadItem
from training.api.schedules import router as schedules_router
from training.api.verdicts import router as verdicts_router
from training.jobs import launch, queries, teams
from training.jobs.asked import MOST_DEVICES
from training.jobs.launch import Wanted
from training.jobs.selection import NothingSelected, Selection, of_hosts, select
from training.models import JobState, ReferenceJob

router = Router()
router.add_router("", verdicts_router)
router.add_router("", baselines_router)
router.add_router("", schedules_router)


@router.get("/reference/workloads", response=Listed[WorkloadItem])
def workloads(request: HttpRequest, page: Query[Page]) -> Listed[WorkloadItem]:
    """List the catalogue with each workload's parameters."""
    return page_of(queries.workloads(), page, WorkloadItem.of)


class LaunchOrder(Schema):
    """Hosts by name, or by `cluster`, `labels` and a part of the device `model`; `per` device for one job on each.

    Per device, `n_devices` are taken of each host, its first ones; 0 takes all.
    `device` is a UUID and may be given where one host is named. `force_reason` starts jobs although a device is in use.
    With `mode` distributed they are the ranks of one job, one on each device of the hosts unless `per` says host.
    """

    model_config = ConfigDict(extra="forbid")

    workload: str
    hosts: list[str] = []
    cluster: str = ""
    labels: dict[str, str] = {}
    model: str = ""
    per: Literal["host", "device"] | None = None
    mode: Literal["jobs", "distributed"] = "jobs"
    n_devices: int = Field(0, ge=0, le=MOST_DEVICES)
    force_reason: str = Field("", max_length=500)
    params: dict[str, Any] = {}
    device: str = ""


@router.post("/reference/jobs", response={201: Listed[JobItem]}, auth=OPERATOR)
def start(request: HttpRequest, order: LaunchOrder) -> Status[Listed[JobItem]]:
    """Launch a workload on each host: one job a host, or none at all where anything is wrong.

    A distributed job is one item, with its `ranks`.
    """
    as_one = order.mode == "distributed"
    try:
        jobs = launch.launch_selected(
            order.workload,
            _wanted(order),
            order.params,
            actor=actor_of(request),
            force_reason=order.force_reason,
            as_one=as_one,
        )
    except launch.LaunchRefused as error:
        if error.is_busy:
            raise ApiError(409, "host_busy", str(error), error.field) from error
        raise invalid(error.field, str(error)) from error
    items = [JobItem.of(jobs[0], jobs)] if as_one else [JobItem.of(job) for job in jobs]
    return Status(201, Listed(items=items, count=len(items)))


def _wanted(order: LaunchOrder) -> list[Wanted]:
    per = order.per or ("device" if order.mode == "distributed" else "host")
    asked = Selection(order.cluster, order.model, order.labels, per, order.n_devices)
    if asked.is_empty:
        if per == "device" and not order.device:
            return of_hosts(order.hosts, "device", order.n_devices)
        return [(host, order.device) for host in order.hosts]
    if order.hosts or order.device:
        raise invalid("hosts", "give hosts by name, or a selection by cluster, labels and model: not both")
    try:
        return select(asked).wanted
    except NothingSelected as error:
        raise invalid("hosts", str(error)) from error


class JobFilter(Page):
    host: str = ""
    workload: str = ""
    active: bool | None = None
    state: JobState | None = None


@router.get("/reference/jobs", response=Listed[JobItem])
def jobs(request: HttpRequest, asked: Query[JobFilter]) -> Listed[JobItem]:
    """List jobs, newest first."""
    _check_host_and_workload(asked.host, asked.workload)
    found = queries.jobs(host=asked.host, workload=asked.workload, active=asked.active)
    if asked.state is not None:
        found = found.filter(state=asked.state)
    return page_of_query(found, asked, JobItem.of)


@router.get("/reference/jobs/{int:job_id}", response=JobItem)
def job(request: HttpRequest, job_id: int) -> JobItem:
    """Show a job: where it stands, and its result once it is done; of a distributed one each rank, too."""
    found = _job(job_id)
    return JobItem.of(found, teams.ranks(found), queries.paces(found))


@router.get("/reference/jobs/{int:job_id}/log", response=dict[str, str])
def log(request: HttpRequest, job_id: int) -> dict[str, str]:
    """Show the end of the job's log, as far as it has arrived."""
    return {"log": _job(job_id).log}


@router.get("/reference/jobs/{int:job_id}/steps", response=StepsAnswer)
def steps(request: HttpRequest, job_id: int) -> StepsAnswer:
    """Show the step timings that have arrived."""
    return StepsAnswer.of(queries.steps(_job(job_id)))


@router.post("/reference/jobs/{int:job_id}/cancel", response=JobItem, auth=OPERATOR)
def cancel(request: HttpRequest, job_id: int) -> JobItem:
    """Ask for the end of a job; its state says when the host has ended it."""
    found = _job(job_id)
    if not launch.cancel(found, actor=actor_of(request), now=timezone.now()):
        raise ApiError(409, "already_ended", f"job {job_id} is {_job(job_id).state}: there is nothing to cancel")
    return JobItem.of(found)


class ResultFilter(Page):
    host: str = ""
    workload: str = ""


@router.get("/reference/results", response=Listed[ResultItem])
def results(request: HttpRequest, asked: Query[ResultFilter]) -> Listed[ResultItem]:
    """List the results of jobs that are done, newest first."""
    _check_host_and_workload(asked.host, asked.workload)
    found = queries.jobs(host=asked.host, workload=asked.workload).filter(state=JobState.DONE, rank=0)
    return page_of_query(found, asked, ResultItem.of)


def _job(job_id: int) -> ReferenceJob:
    found = ReferenceJob.objects.select_related("host", "device", "team").filter(pk=job_id).first()
    if found is None:
        raise ApiError(404, "not_found", f"there is no reference job {job_id}", "job_id")
    return found


def _check_host_and_workload(host: str, workload: str) -> None:
    if host and not Host.objects.filter(name=host).exists():
        raise invalid("host", f"there is no host named {host!r}")
    names = [known.name for known in queries.workloads()]
    if workload and workload not in names:
        raise invalid("workload", f"{workload!r} is not one of {', '.join(names)}")
