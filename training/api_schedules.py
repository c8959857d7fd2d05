"""The API of schedules, for scripts. Included by training/api.py."""

from datetime import datetime
from typing import Any, Literal

from django.http import HttpRequest
from django.utils import timezone
from ninja import Query, Router, Schema, Status
from pydantic import ConfigDict

from fleet.api_access import OPERATOR
from fleet.api_errors import ApiError, invalid
from fleet.api_lists import Listed, Page, page_of_query
from fleet.auth import actor_of
from training import schedules
from training.models import Schedule
from training.schedules import ScheduleInvalid
from training.selection import Selection

router = Router()
_VISITS_SHOWN = 20


class ScheduleOrder(Schema):
    """`cron` is minute hour day month weekday, in UTC; `triggers` are host_back, software_changed, device_new."""

    model_config = ConfigDict(extra="forbid")

    name: str
    workload: str
    params: dict[str, Any] = {}
    cluster: str = ""
    labels: dict[str, str] = {}
    model: str = ""
    per: Literal["host", "device"] = "host"
    cron: str = ""
    triggers: list[str] = []


class VisitItem(Schema):
    """`outcome` says why nothing was started; both it and `job` are empty while the host is waited for."""

    host: str
    device: str
    why: str
    due_at: datetime
    job: int | None
    outcome: str


class ScheduleItem(Schema):
    """`next_at` is null where only events start it; `visits` are the newest."""

    id: int
    name: str
    workload: str
    params: dict[str, Any]
    selection: dict[str, Any]
    cron: str
    triggers: list[str]
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
            cron=schedule.cron,
            triggers=schedule.triggers,
            next_at=schedules.due_at(schedule.cron, timezone.now()) if schedule.cron else None,
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
    selection = Selection(order.cluster, order.model, order.labels, order.per)
    try:
        kept = schedules.keep(
            order.name, order.workload, order.params, selection, cron=order.cron, triggers=order.triggers,
            actor=actor_of(request), now=timezone.now(),
        )  # fmt: skip
    except ScheduleInvalid as error:
        raise invalid(error.field, str(error)) from error
    return Status(201, ScheduleItem.of(kept))


@router.delete("/reference/schedules/{int:schedule_id}", response={204: None}, auth=OPERATOR)
def remove(request: HttpRequest, schedule_id: int) -> Status[None]:
    """Remove a schedule; the jobs that it started stay."""
    found = Schedule.objects.filter(pk=schedule_id).first()
    if found is None:
        raise ApiError(404, "not_found", f"there is no schedule {schedule_id}", "schedule_id")
    schedules.remove(found, actor=actor_of(request))
    return Status(204, None)
