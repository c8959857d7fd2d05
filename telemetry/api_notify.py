"""The API's silences, notification targets and what was told to them. A part of telemetry/api.py, which calls it."""

from datetime import datetime, timedelta
from email.utils import parseaddr
from typing import Annotated
from urllib.parse import urlsplit

from django.conf import settings
from django.db import IntegrityError, transaction
from django.http import HttpRequest
from django.utils import timezone
from ninja import Field, Query, Router, Schema, Status
from pydantic import ConfigDict, StringConstraints

from fleet import audit
from fleet.api_access import ADMIN, OPERATOR
from fleet.api_errors import ApiError, invalid
from fleet.api_lists import Listed, Page, page_of_query
from fleet.auth import actor_of
from fleet.models import Host, Severity
from telemetry.models import Delivery, DeliveryReason, NotificationTarget, Silence, TargetKind
from telemetry.notify import silences

router = Router()

LONGEST = timedelta(days=365)

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
    minutes: int = Field(ge=1, le=LONGEST.days * 1440, description="How long it holds, from now on.")


@router.get("/silences", response=Listed[SilenceItem])
def list_silences(request: HttpRequest, page: Query[Page]) -> Listed[SilenceItem]:
    """List silences, the last to end first; also those that have ended."""
    return page_of_query(Silence.objects.select_related("host"), page, SilenceItem.of)


@router.post("/silences", response={201: SilenceItem}, auth=OPERATOR)
def create_silence(request: HttpRequest, asked: NewSilence) -> Status[SilenceItem]:
    """Tell nobody of matching alerts for a while."""
    key, _, value = (asked.label or "").partition("=")
    if asked.label is not None and (not key or not value):
        raise invalid("label", f"label: expected key=value, found {asked.label!r}")
    actor, now = actor_of(request), timezone.now()
    with transaction.atomic():
        silence = Silence.objects.create(
            rule=asked.rule or "", host=_host(asked.host), label_key=key, label_value=value, comment=asked.comment,
            created_by=actor.name, created_at=now, starts_at=now, ends_at=now + timedelta(minutes=asked.minutes),
        )  # fmt: skip
        audit.record(actor.name, "silence.create", str(silence)[:200], {"silence": silence.pk}, actor.address)
    return Status(201, SilenceItem.of(silence))


@router.post("/silences/{number}/end", response=SilenceItem, auth=OPERATOR)
def end_silence(request: HttpRequest, number: int) -> SilenceItem:
    """End a silence before its time."""
    silence = Silence.objects.select_related("host").filter(pk=number).first()
    if silence is None:
        raise ApiError(404, "not_found", f"there is no silence {number}", "number")
    actor = actor_of(request)
    with transaction.atomic():
        if not silences.end(silence, timezone.now()):
            raise ApiError(409, "already_ended", f"silence {number} has ended already")
        audit.record(actor.name, "silence.end", str(silence)[:200], {"silence": silence.pk}, actor.address)
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
    _check_address(asked)
    actor = actor_of(request)
    try:
        with transaction.atomic():
            target = NotificationTarget.objects.create(**asked.dict())
            detail = {"kind": target.kind, "severity": target.severity}
            audit.record(actor.name, "notification-target.create", target.name, detail, actor.address)
    except IntegrityError as error:
        raise ApiError(409, "name_taken", f"there is a target named {asked.name!r} already", "name") from error
    return Status(201, TargetItem.of(target))


@router.delete("/notification-targets/{number}", response={204: None}, auth=ADMIN)
def delete_target(request: HttpRequest, number: int) -> Status[None]:
    """Tell that target nothing more; its log goes with it."""
    actor = actor_of(request)
    with transaction.atomic():
        target = NotificationTarget.objects.filter(pk=number).first()
        if target is None:
            raise ApiError(404, "not_found", f"there is no notification target {number}", "number")
        audit.record(actor.name, "notification-target.delete", target.name, {}, actor.address)
        target.delete()
    return Status(204, None)


@router.get("/deliveries", response=Listed[DeliveryItem], auth=OPERATOR)
def list_deliveries(request: HttpRequest, page: Query[Page]) -> Listed[DeliveryItem]:
    """List what was told, or is to be, newest first."""
    return page_of_query(Delivery.objects.select_related("target"), page, DeliveryItem.of)


def _check_address(asked: NewTarget) -> None:
    if asked.kind == TargetKind.WEBHOOK:
        parts = urlsplit(asked.address)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise invalid("address", f"address: expected an http or https URL, found {asked.address!r}")
        return
    if not settings.EMAIL_HOST:
        raise invalid("kind", "kind: e-mail needs the setting STEPWATT_SMTP_URL")
    for address in asked.address.split(","):
        if "@" not in parseaddr(address)[1]:
            raise invalid("address", f"address: {address.strip()!r} is no e-mail address")


def _host(name: str | None) -> Host | None:
    if name is None:
        return None
    found = Host.objects.filter(name=name).first()
    if found is None:
        raise invalid("host", f"host: there is no host named {name!r}")
    return found
