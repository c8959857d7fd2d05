"""The API of schedules, for scripts: as their pages do, by training/jobs/schedules.py. Included by training/api/jobs.py."""

from datetime import datetime
from typing import Any, Literal

from django.http import HttpRequest
from django.utils import timezone
from ninja import Query, Router, Schema, Status
from pydantic import ConfigDict, Field

from fleet.access.auth import actor_of
from fleet.api.access import OPERATOR
from fleet.api.lists import Listed, Page, page_of_query
from fleet.web.api_errors import ApiError, invalid
from training.jobs import schedules
from training.jobs.asked import MOST_DEVICES
from training.jobs.cron import CronInvalid, due_at
from training.jobs.schedules import Plan, ScheduleInvalid
from training.jobs.selection import Selection
from training.models import Schedule

router = Router()
_VISITS_SHOWN = 20


class ScheduleOrder(Schema):
    """`cron` is minute hour day month weekday, in UTC; `triggers` are host_back, software_changed, device_new.

    Per device, `n_devices` are taken of each host; 0 takes all. With `mode` distributed they are the ranks of one job, one on
    each device of the hosts unless `per` says host; it starts when all the hosts are idle.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    workload: str
    params: dict[str, Any] = {}
    cluster: str = ""
    labels: dict[str, str] = {}
    model: str = ""
    per: Literal["host", "device"] | None = None
    mode: Literal["jobs", "distributed"] = "jobs"
    n_devices: int = Field(0, ge=0, le=MOST_DEVICES)
    cron: str = ""
    triggers: list[str] = []

    def plan(self) -> Plan:
        as_one = self.mode == "distributed"
        per = self.per or ("device" if as_one else "host")
        selection = Selection(self.cluster, self.model, self.labels, per, self.n_devices)
        return Plan(self.name, self.workload, selection, self.cron, self.triggers, self.params, as_one)


class VisitItem(Schema):
    """`outcome` says why nothing was started, or so far not."""

    host: str
    device: str
    why: str
    due_at: datetime
    job: int | None
    outcome: str


class ScheduleItem(Schema):
    """`next_at` is null where only events start it, and while it is paused; `visits` are the newest."""

    id: int
    name: str
    workload: str
    params: dict[str, Any]
    selection: dict[str, Any]
    mode: Literal["jobs", "distributed"]
    cron: str
    triggers: list[str]
    is_active: bool
    next_at: datetime | None
    created_by: str
    visits: list[VisitItem]

    @classmethod
    def of(cls, schedule: Schedule) -> "ScheduleItem":
        newest = schedule.visits.select_related("host")[:_VISITS_SHOWN]
        return cls(
            id=schedule.pk,
            name=schedule.name,
            workload=schedule.workload,
            params=schedule.params,
            selection=schedule.selection,
            mode="distributed" if schedule.as_one else "jobs",
            cron=schedule.cron,
            triggers=schedule.triggers,
            is_active=schedule.is_active,
            next_at=next_at(schedule),
            created_by=schedule.created_by,
            visits=[
                VisitItem(
                    host=visit.host.name,
                    device=visit.device_uuid,
                    why=visit.why,
                    due_at=visit.due_at,
                    job=visit.job_id,
                    outcome=visit.outcome,
                )
                for visit in newest
            ],
        )


@router.get("/reference/schedules", response=Listed[ScheduleItem])
def every(request: HttpRequest, page: Query[Page]) -> Listed[ScheduleItem]:
    """List schedules by name, each with its newest visits."""
    return page_of_query(Schedule.objects.all(), page, ScheduleItem.of)


@router.post("/reference/schedules", response={201: ScheduleItem}, auth=OPERATOR)
def keep(request: HttpRequest, order: ScheduleOrder) -> Status[ScheduleItem]:
    """Keep a schedule: a workload on the hosts of a selection, by time, after events, or both."""
    try:
        kept = schedules.keep(order.plan(), actor=actor_of(request), now=timezone.now())
    except ScheduleInvalid as error:
        raise invalid(error.field, str(error)) from error
    return Status(201, ScheduleItem.of(kept))


@router.get("/reference/schedules/{int:schedule_id}", response=ScheduleItem)
def one(request: HttpRequest, schedule_id: int) -> ScheduleItem:
    """Show a schedule with its newest visits."""
    return ScheduleItem.of(_schedule(schedule_id))


@router.put("/reference/schedules/{int:schedule_id}", response=ScheduleItem, auth=OPERATOR)
def change(request: HttpRequest, schedule_id: int, order: ScheduleOrder) -> ScheduleItem:
    """Have a schedule say something else from now on."""
    try:
        changed = schedules.change(_schedule(schedule_id), order.plan(), actor=actor_of(request), now=timezone.now())
    except ScheduleInvalid as error:
        raise invalid(error.field, str(error)) from error
    return ScheduleItem.of(changed)


@router.post("/reference/schedules/{int:schedule_id}/pause", response=ScheduleItem, auth=OPERATOR)
def pause(request: HttpRequest, schedule_id: int) -> ScheduleItem:
    """Have a schedule start nothing until it is resumed; what waits for its host is left out."""
    schedules.pause(_schedule(schedule_id), actor=actor_of(request), now=timezone.now())
    return ScheduleItem.of(_schedule(schedule_id))


@router.post("/reference/schedules/{int:schedule_id}/resume", response=ScheduleItem, auth=OPERATOR)
def resume(request: HttpRequest, schedule_id: int) -> ScheduleItem:
    """Have a schedule follow time and events again."""
    schedules.resume(_schedule(schedule_id), actor=actor_of(request), now=timezone.now())
    return ScheduleItem.of(_schedule(schedule_id))


@router.delete("/reference/schedules/{int:schedule_id}", response={204: None}, auth=OPERATOR)
def remove(request: HttpRequest, schedule_id: int) -> Status[None]:
    """Remove a schedule; the jobs that it started stay."""
    schedules.remove(_schedule(schedule_id), actor=actor_of(request))
    return Status(204, None)


def next_at(schedule: Schedule) -> datetime | None:
    """Return when it is due next, None where no time says so."""
    try:
        return due_at(schedule.cron, timezone.now()) if schedule.cron and schedule.is_active else None
    except CronInvalid:
        return None


def _schedule(schedule_id: int) -> Schedule:
    found = Schedule.objects.filter(pk=schedule_id).first()
    if found is None:
        raise ApiError(404, "not_found", f"there is no schedule {schedule_id}", "schedule_id")
    return found
