"""Sending alerts to a target: one POST of JSON, or one e-mail, for all that are due to it. Called by deliver.py.

A webhook's body is {"version": 1, "alerts": [{"id", "state", "rule", "severity", "subject", "host", "cluster", "device",
"text", "action", "evidence", "since", "resolved_at", "url"}, …]}. Where the target has a secret, the header
X-Stepwatt-Signature is "sha256=" and the HMAC-SHA256 of the body, in hexadecimal digits.
"""

import hashlib
import hmac
import json
from collections.abc import Sequence
from smtplib import SMTPException
from typing import Any, NamedTuple

from django.conf import settings
from django.core.mail import EmailMessage

from fleet.models import Event
from telemetry.models import Delivery, DeliveryReason, NotificationTarget, TargetKind
from telemetry.notify.web_post import PostFailed, post

_SUBJECT_LENGTH = 150
REMOVED = "removed"  # in an alert's detail: which host, cluster and device it was of


class SendFailed(Exception):
    """The target did not take the message; the text says why."""


def send(target: NotificationTarget, deliveries: Sequence[Delivery]) -> None:
    """Tell the target of all these alerts in one message. Raises SendFailed."""
    if target.kind == TargetKind.WEBHOOK:
        _post(target, deliveries)
    else:
        _mail(target, deliveries)


def send_test(target: NotificationTarget) -> None:
    """Send the target a message that says that it is a test, and holds no alert. Raises SendFailed."""
    if target.kind == TargetKind.WEBHOOK:
        _post_body(target, {"version": 1, "test": True, "alerts": []})
    else:
        _mail_text(target, "test", "This is a test. Alerts of Stepwatt will come to this address.")


def _post(target: NotificationTarget, deliveries: Sequence[Delivery]) -> None:
    _post_body(target, {"version": 1, "alerts": [_told(each) for each in deliveries]})


def _post_body(target: NotificationTarget, content: dict[str, Any]) -> None:
    body = json.dumps(content).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "Stepwatt"}
    if target.secret:
        headers["X-Stepwatt-Signature"] = "sha256=" + hmac.new(target.secret.encode(), body, hashlib.sha256).hexdigest()
    try:
        post(target.address, body, headers)
    except PostFailed as error:
        raise SendFailed(str(error)) from error


def _mail(target: NotificationTarget, deliveries: Sequence[Delivery]) -> None:
    lines = [_line(each) for each in deliveries]
    _mail_text(
        target,
        lines[0] if len(lines) == 1 else f"{len(lines)} alerts",
        "\n\n".join(_paragraph(each) for each in deliveries),
    )


def _mail_text(target: NotificationTarget, about: str, text: str) -> None:
    subject = " ".join(f"[Stepwatt] {about}".split())  # a header is one line, whatever a host's name for a thing holds
    to = [address.strip() for address in target.address.split(",")]
    message = EmailMessage(subject[:_SUBJECT_LENGTH], text, settings.DEFAULT_FROM_EMAIL, to)
    try:
        message.send()
    except ValueError as error:  # of an address that no mail can be sent to; Django's own check of headers
        raise SendFailed(f"no mail can be made of it: {error}") from error
    except (SMTPException, OSError) as error:
        raise SendFailed(f"the mail server did not take it: {error}") from error


def _told(delivery: Delivery) -> dict[str, Any]:
    event = delivery.event
    place = _place(event)
    return {
        "id": event.pk,
        "state": delivery.reason,
        "rule": event.rule,
        "severity": event.severity,
        "subject": event.subject,
        "host": place.host,
        "cluster": place.cluster,
        "device": place.device,
        "text": event.text,
        "action": event.detail.get("action", ""),
        "evidence": {name: value for name, value in event.detail.items() if name not in {"action", REMOVED}},
        "since": event.first_at.isoformat(),
        "resolved_at": event.resolved_at.isoformat() if event.resolved_at else None,
        "url": url_of(event),
    }


def url_of(event: Event) -> str | None:
    """Return where the alert is shown; None where the server does not know its own public address."""
    return f"{settings.STEPWATT_PUBLIC_URL}/events/?event={event.pk}" if settings.STEPWATT_PUBLIC_URL else None


def _line(delivery: Delivery) -> str:
    event = delivery.event
    word = "resolved" if delivery.reason == DeliveryReason.RESOLVED else event.severity
    return f"{word}: {_where(event)}{event.text}"


def _where(event: Event) -> str:
    where = event.device or event.host or _place(event).host
    return f"{where}: " if where else ""


class _Place(NamedTuple):
    host: str | None
    cluster: str | None
    device: str | None


def _place(event: Event) -> _Place:
    """Return where it was; of a host that was removed what stands in its stead."""
    if event.host is None:
        return _Place(*(event.detail.get(REMOVED, {}).get(name) for name in _Place._fields))
    return _Place(event.host.name, event.host.cluster, event.device.uuid if event.device else None)


def _paragraph(delivery: Delivery) -> str:
    event, lines = delivery.event, [_line(delivery)]
    lines.append(f"since {event.first_at:%Y-%m-%d %H:%M:%S} UTC")
    if event.resolved_at:
        lines.append(f"until {event.resolved_at:%Y-%m-%d %H:%M:%S} UTC")
    elif action := event.detail.get("action"):
        lines.append(f"next: {action}")
    return "\n".join([*lines, *filter(None, [url_of(event)])])
