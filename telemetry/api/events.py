"""The API's events and alerts, and the order to let go of a driver. A part of telemetry/api/router.py, which calls it."""

from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest
from django.utils import timezone
from ninja import Field, Query, Router, Schema
from pydantic import ConfigDict

from fleet.access.auth import actor_of
from fleet.api.access import OPERATOR
from fleet.api.lists import Listed, Page, page_of_query
from fleet.models import Device, Event, EventKind, Host, Severity
from fleet.web.api_errors import ApiError, invalid
from telemetry.api.questions import Moment
from telemetry.events.event_log import Question
from telemetry.health import alerts, rules
from telemetry.health.alerts import State
from telemetry.orders import driver

router = Router()


class Evidence(Schema):
    """What proves an alert: `values` in base units and the `thresholds` of its rule, as they were read at `read_at`."""

    values: dict[str, float | str]
    thresholds: dict[str, float]
    read_at: datetime

    @classmethod
    def of(cls, detail: dict[str, Any]) -> "Evidence":
        read_at = datetime.fromtimestamp(detail["read_ms"] / 1000, UTC)
        return cls(values=detail["values"], thresholds=detail["thresholds"], read_at=read_at)


class EventItem(Schema):
    """What happened, `count` times from `first_at` to `last_at`. `code` is an XID, or clock event reasons' bit mask.

    An alert has a `rule` and a `subject` ("device:<uuid>", "host:<name>", "hosts:<name>,<name>", "cluster:<name>", "fleet",
    "server", "database"); it has held `since`, was last seen to hold at `last_at`, and is open until `resolved_at`.
    """

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
    rule: str | None
    subject: str | None
    state: State | None
    since: datetime | None
    evidence: Evidence | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    resolved_at: datetime | None

    @classmethod
    def of(cls, event: Event) -> "EventItem":
        is_alert = bool(event.rule)
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
            rule=event.rule or None,
            subject=event.subject or None,
            state=alerts.state_of(event),
            since=event.first_at if is_alert else None,
            evidence=Evidence.of(event.detail) if is_alert else None,
            acknowledged_at=event.acknowledged_at,
            acknowledged_by=event.acknowledged_by or None,
            resolved_at=event.resolved_at,
        )


class EventFilter(Page):
    """`start` and `end` bound when it happened; without them, events of any time."""

    host: str | None = None
    device: str | None = Field(None, description="A device's uuid.")
    kind: EventKind | None = None
    severity: Severity | None = None
    start: Moment | None = None
    end: Moment | None = None
    rule: str | None = Field(None, description="The rule of an alert.")
    state: State | None = Field(None, description="Of alerts: firing, acknowledged or resolved.")


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
        rule=None if asked.rule is None else _rule(asked.rule),
        state=asked.state,
    )
    return page_of_query(question.find(), asked, EventItem.of)


class Acknowledgement(Schema):
    """`comment` is shown beside the alert."""

    model_config = ConfigDict(extra="forbid")

    comment: str = Field("", max_length=alerts.MAX_COMMENT)


@router.post("/events/{id}/acknowledge", response=EventItem, auth=OPERATOR)
def acknowledge(request: HttpRequest, id: int, asked: Acknowledgement) -> EventItem:  # noqa: A002 — the path's own word
    """Say that somebody knows of an open alert. It stays open until what it tells of is over."""
    try:
        event = alerts.acknowledge(id, actor_of(request), timezone.now(), asked.comment)
    except Event.DoesNotExist:
        raise ApiError(404, "not_found", f"there is no event {id}", "id") from None
    except alerts.NotAcknowledged as error:
        raise ApiError(409, "cannot_be_acknowledged", str(error), "id") from error
    return EventItem.of(event)


@router.post("/events/{id}/resolve", response=EventItem, auth=OPERATOR)
def resolve(request: HttpRequest, id: int) -> EventItem:  # noqa: A002 — the path's own word
    """End an open alert by hand. Where its rule still finds what it tells of, it is raised anew."""
    try:
        event = alerts.resolve(id, actor_of(request), timezone.now())
    except Event.DoesNotExist:
        raise ApiError(404, "not_found", f"there is no event {id}", "id") from None
    except alerts.NotResolved as error:
        raise ApiError(409, "cannot_be_resolved", str(error), "id") from error
    return EventItem.of(event)


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


def _rule(name: str) -> str:
    if name not in rules.by_name():
        raise ApiError(
            404, "not_found", f"there is no rule named {name!r}; there are {', '.join(rules.by_name())}", "rule"
        )
    return name


def _device(uuid: str) -> Device:
    found = Device.objects.filter(uuid=uuid).first()
    if found is None:
        raise ApiError(404, "not_found", f"there is no device {uuid}", "device")
    return found
