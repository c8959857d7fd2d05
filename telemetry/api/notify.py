"""The API's silences, notification targets and what was told to them. A part of telemetry/api/router.py, which calls it."""

from datetime import datetime
from typing import Annotated

from django.http import HttpRequest
from django.utils import timezone
from ninja import Field, Query, Router, Schema, Status
from pydantic import ConfigDict, StringConstraints

from fleet.access.auth import actor_of
from fleet.api.access import ADMIN, OPERATOR
from fleet.api.lists import Listed, Page, page_of_query
from fleet.models import Severity
from fleet.web.api_errors import ApiError, invalid
from telemetry.models import Delivery, DeliveryReason, NotificationTarget, Silence, TargetKind
from telemetry.notify import silences, targets

router = Router()

Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]


class SilenceItem(Schema):
    """Nobody is told of matching alerts from `starts_at` to `ends_at`; what is null matches everything."""

    id: int
    rule: str | None
    host: str | None
    label: str | None
    comment: str
    created_by: str
    starts_at: datetime
    ends_at: datetime
    is_active: bool

    @classmethod
    def of(cls, silence: Silence) -> "SilenceItem":
        now = timezone.now()
        return cls(
            id=silence.pk,
            rule=silence.rule or None,
            host=silence.host.name if silence.host else None,
            label=f"{silence.label_key}={silence.label_value}" if silence.label_key else None,
            comment=silence.comment,
            created_by=silence.created_by,
            starts_at=silence.starts_at,
            ends_at=silence.ends_at,
            is_active=silence.starts_at <= now < silence.ends_at,
        )


class NewSilence(Schema):
    """`rule`, `host` and `label` (`key=value`) must all match; without any of them, all alerts are silenced."""

    model_config = ConfigDict(extra="forbid")

    rule: str | None = Field(None, max_length=60)
    host: str | None = None
    label: str | None = Field(None, max_length=564)
    comment: Words
    minutes: int = Field(ge=1, le=silences.LONGEST_MINUTES, description="How long it holds, from now on.")


@router.get("/silences", response=Listed[SilenceItem])
def list_silences(request: HttpRequest, page: Query[Page]) -> Listed[SilenceItem]:
    """List silences, the last to end first; also those that have ended."""
    return page_of_query(Silence.objects.select_related("host"), page, SilenceItem.of)


@router.post("/silences", response={201: SilenceItem}, auth=OPERATOR)
def create_silence(request: HttpRequest, asked: NewSilence) -> Status[SilenceItem]:
    """Tell nobody of matching alerts for a while."""
    what = silences.Asked(asked.comment, asked.minutes, asked.rule or "", asked.host or "", asked.label or "")
    if asked.host == "" or asked.label == "":
        raise invalid("host" if asked.host == "" else "label", "expected a name, or null")
    try:
        silence = silences.create(what, actor_of(request), timezone.now())
    except silences.SilenceRefused as refusal:
        raise invalid(refusal.field, str(refusal)) from refusal
    return Status(201, SilenceItem.of(silence))


@router.post("/silences/{number}/end", response=SilenceItem, auth=OPERATOR)
def end_silence(request: HttpRequest, number: int) -> SilenceItem:
    """End a silence before its time."""
    silence = Silence.objects.select_related("host").filter(pk=number).first()
    if silence is None:
        raise ApiError(404, "not_found", f"there is no silence {number}", "number")
    if not silences.end(silence, actor_of(request), timezone.now()):
        raise ApiError(409, "already_ended", f"silence {number} has ended already")
    silence.refresh_from_db()
    return SilenceItem.of(silence)


class TargetItem(Schema):
    """Where alerts are told; `last` is how the newest delivery to it went. A secret is never told."""

    id: int
    name: str
    kind: TargetKind
    address: str
    has_secret: bool
    severity: Severity
    is_enabled: bool
    last: "DeliveryItem | None"

    @classmethod
    def of(cls, target: NotificationTarget) -> "TargetItem":
        last = target.deliveries.select_related("target").exclude(attempts=0).order_by("-created_at", "-pk").first()
        return cls(
            id=target.pk,
            name=target.name,
            kind=TargetKind(target.kind),
            address=target.address,
            has_secret=bool(target.secret),
            severity=Severity(target.severity),
            is_enabled=target.is_enabled,
            last=DeliveryItem.of(last) if last else None,
        )


class DeliveryItem(Schema):
    """One alert to one target; without `delivered_at` and `next_attempt_at` it was given up."""

    target: str
    event: int
    reason: DeliveryReason
    created_at: datetime
    attempts: int
    delivered_at: datetime | None
    next_attempt_at: datetime | None
    error: str

    @classmethod
    def of(cls, delivery: Delivery) -> "DeliveryItem":
        return cls(
            target=delivery.target.name,
            event=delivery.event_id,
            reason=DeliveryReason(delivery.reason),
            created_at=delivery.created_at,
            attempts=delivery.attempts,
            delivered_at=delivery.delivered_at,
            next_attempt_at=delivery.next_attempt_at,
            error=delivery.error,
        )


TargetItem.model_rebuild()


class NewTarget(Schema):
    """`address` is a URL, or e-mail addresses with commas between them."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    kind: TargetKind
    address: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000)]
    secret: str = Field("", max_length=200)
    severity: Severity = Severity.WARNING


@router.get("/notification-targets", response=Listed[TargetItem], auth=ADMIN)
def list_targets(request: HttpRequest, page: Query[Page]) -> Listed[TargetItem]:
    """List where alerts are told."""
    return page_of_query(NotificationTarget.objects.all(), page, TargetItem.of)


@router.post("/notification-targets", response={201: TargetItem}, auth=ADMIN)
def create_target(request: HttpRequest, asked: NewTarget) -> Status[TargetItem]:
    """Have alerts of at least a severity told there; of those that are open, it is told at once."""
    what = targets.Asked(asked.name, asked.kind, asked.address, asked.secret, asked.severity)
    try:
        target = targets.create(what, actor_of(request))
    except targets.NameTaken as refusal:
        raise ApiError(409, "name_taken", str(refusal), refusal.field) from refusal
    except targets.TargetRefused as refusal:
        raise invalid(refusal.field, str(refusal)) from refusal
    return Status(201, TargetItem.of(target))


@router.delete("/notification-targets/{number}", response={204: None}, auth=ADMIN)
def delete_target(request: HttpRequest, number: int) -> Status[None]:
    """Tell that target nothing more; its log goes with it."""
    try:
        targets.delete(number, actor_of(request))
    except NotificationTarget.DoesNotExist:
        raise ApiError(404, "not_found", f"there is no notification target {number}", "number") from None
    return Status(204, None)


@router.get("/deliveries", response=Listed[DeliveryItem], auth=OPERATOR)
def list_deliveries(request: HttpRequest, page: Query[Page]) -> Listed[DeliveryItem]:
    """List what was told, or is to be, newest first."""
    return page_of_query(Delivery.objects.select_related("target"), page, DeliveryItem.of)
