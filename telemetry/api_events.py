"""The API's events, and the order to let go of a driver. A part of telemetry/api.py, which calls it."""

from datetime import datetime
from typing import Any

from django.http import HttpRequest
from django.utils import timezone
from ninja import Field, Query, Router, Schema
from pydantic import ConfigDict

from fleet.api_access import OPERATOR
from fleet.api_errors import ApiError, invalid
from fleet.api_lists import Listed, Page, page_of_query
from fleet.auth import actor_of
from fleet.models import Device, Event, EventKind, Host, Severity
from telemetry import driver
from telemetry.api_questions import Moment
from telemetry.event_log import Question

router = Router()


class EventItem(Schema):
    """What happened, `count` times from `first_at` to `last_at`. `code` is an XID, or clock event reasons' bit mask."""

    id: int
    kind: EventKind
    severity: Severity
    host: str | None
    device: str | None
    code: int | None
    text: str
    detail: dict[str, Any]
    first_at: datetime
    last_at: datetime
    count: int

    @classmethod
    def of(cls, event: Event) -> "EventItem":
        return cls(
            id=event.pk,
            kind=EventKind(event.kind),
            severity=Severity(event.severity),
            host=event.host.name if event.host else None,
            device=event.device.uuid if event.device else None,
            code=event.code,
            text=event.text,
            detail=event.detail,
            first_at=event.first_at,
            last_at=event.last_at,
            count=event.count,
        )


class EventFilter(Page):
    """`start` and `end` bound when it happened; without them, events of any time."""

    host: str | None = None
    device: str | None = Field(None, description="A device's uuid.")
    kind: EventKind | None = None
    severity: Severity | None = None
    start: Moment | None = None
    end: Moment | None = None


@router.get("/events", response=Listed[EventItem])
def events(request: HttpRequest, asked: Query[EventFilter]) -> Listed[EventItem]:
    """List what happened to hosts and devices, newest first."""
    if asked.start and asked.end and asked.start >= asked.end:
        raise invalid("start", f"start ({asked.start.isoformat()}) is not before end ({asked.end.isoformat()})")
    question = Question(
        host=None if asked.host is None else _host(asked.host, "host"),
        device=None if asked.device is None else _device(asked.device),
        kind=asked.kind,
        severity=asked.severity,
        start=asked.start,
        end=asked.end,
    )
    return page_of_query(question.find(), asked, EventItem.of)


class DriverOrder(Schema):
    """`minutes` until the agent takes the driver up again by itself."""

    model_config = ConfigDict(extra="forbid")

    action: driver.Action
    minutes: int = Field(driver.MINUTES, ge=1, le=driver.MOST_MINUTES)


class Ordered(Schema):
    host: str
    action: driver.Action
    minutes: int


@router.post("/hosts/{name}/driver", response=Ordered, auth=OPERATOR)
def order_driver(request: HttpRequest, name: str, asked: DriverOrder) -> Ordered:
    """Ask the host's agent to let go of the driver, so that a GPU can be reset, or to take it up again."""
    host = _host(name, "name")
    try:
        driver.order(host, asked.action, asked.minutes, actor_of(request), timezone.now())
    except driver.OrderRefused as error:
        status, code = (503, "broker_unreachable") if error.is_broker else (409, "cannot_be_asked")
        raise ApiError(status, code, str(error), error.field) from error
    return Ordered(host=host.name, action=asked.action, minutes=asked.minutes)


def _host(name: str, field: str) -> Host:
    found = Host.objects.filter(name=name).first()
    if found is None:
        raise ApiError(404, "not_found", f"there is no host named {name!r}", field)
    return found


def _device(uuid: str) -> Device:
    found = Device.objects.filter(uuid=uuid).first()
    if found is None:
        raise ApiError(404, "not_found", f"there is no device {uuid}", "device")
    return found
