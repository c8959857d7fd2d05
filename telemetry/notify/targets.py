"""Where alerts are told: made, tried out and deleted by admins. Called by the API and the settings page."""

from dataclasses import dataclass
from email.utils import parseaddr
from urllib.parse import urlsplit

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import OuterRef, Subquery

from fleet.access import audit
from fleet.access.audit import Actor
from fleet.models import Severity
from telemetry.models import Delivery, NotificationTarget, TargetKind
from telemetry.notify import send


class TargetRefused(Exception):
    """None was made; `field` is what is wrong, the text says how."""

    def __init__(self, field: str, words: str) -> None:
        super().__init__(words)
        self.field = field


class NameTaken(TargetRefused):
    """There is a target of that name already."""


@dataclass(frozen=True, slots=True)
class Asked:
    """`address` is a URL, or e-mail addresses with commas between them; a webhook's `secret` signs what it is sent."""

    name: str
    kind: TargetKind
    address: str
    secret: str = ""
    severity: Severity = Severity.WARNING


def create(asked: Asked, actor: Actor) -> NotificationTarget:
    """Have alerts of at least a severity told there; of those that are open, it is told at once. Raises TargetRefused."""
    name, address = asked.name.strip(), asked.address.strip()
    if not 1 <= len(name) <= 100:
        raise TargetRefused("name", "name: expected 1 to 100 characters")
    if not 1 <= len(address) <= 1000 or len(asked.secret) > 200:
        raise TargetRefused("address", "address: expected 1 to 1,000 characters, and a secret of at most 200")
    _check_address(asked.kind, address)
    try:
        with transaction.atomic():
            target = NotificationTarget.objects.create(
                name=name, kind=asked.kind, address=address, secret=asked.secret, severity=asked.severity
            )
            detail = {"kind": target.kind, "severity": target.severity}
            audit.record(actor.name, "notification-target.create", target.name, detail, actor.address)
    except IntegrityError as error:
        raise NameTaken("name", f"there is a target named {name!r} already") from error
    return target


def delete(pk: int, actor: Actor) -> NotificationTarget:
    """Tell that target nothing more; its log goes with it. Raises NotificationTarget.DoesNotExist."""
    with transaction.atomic():
        target = NotificationTarget.objects.get(pk=pk)
        audit.record(actor.name, "notification-target.delete", target.name, {}, actor.address)
        target.delete()
    return target


def test(pk: int, actor: Actor) -> NotificationTarget:
    """Send the target a message without any alert. Raises NotificationTarget.DoesNotExist, send.SendFailed."""
    target = NotificationTarget.objects.get(pk=pk)
    audit.record(actor.name, "notification-target.test", target.name, {}, actor.address)
    send.send_test(target)
    return target


def with_last() -> list[tuple[NotificationTarget, Delivery | None]]:
    """Return each target with its newest delivery that was tried, in two queries."""
    tried = Delivery.objects.filter(target=OuterRef("pk")).exclude(attempts=0).order_by("-created_at", "-pk")
    found = list(NotificationTarget.objects.annotate(last_pk=Subquery(tried.values("pk")[:1])))
    last = Delivery.objects.in_bulk([target.last_pk for target in found if target.last_pk])
    return [(target, last.get(target.last_pk)) for target in found]


def _check_address(kind: TargetKind, address: str) -> None:
    if kind == TargetKind.WEBHOOK:
        if not _is_of_web(address):
            raise TargetRefused("address", f"address: expected an http or https URL, found {address!r}")
        return
    if not settings.EMAIL_HOST:
        raise TargetRefused("kind", "kind: e-mail needs the setting STEPWATT_SMTP_URL")
    for each in address.split(","):
        if "@" not in parseaddr(each)[1]:
            raise TargetRefused("address", f"address: {each.strip()!r} is no e-mail address")


def _is_of_web(address: str) -> bool:
    try:
        parts = urlsplit(address)
    except ValueError:  # an IPv6 address that is none
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname)
