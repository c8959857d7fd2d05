"""Which targets are to be told of an alert: the rows that the sender works off. Called in the alert's own transaction."""

from datetime import datetime

from django.db.models import Q

from fleet.models import Event, Severity
from telemetry.models import Delivery, DeliveryReason, NotificationTarget, Silence

_GRAVITY = list(Severity)


def note(event: Event, reason: DeliveryReason, now: datetime) -> None:
    """Ask for one delivery to each target that is on, whose severity is reached, unless a silence covers the alert.

    Who was not told that it fires is not told that it is resolved. Asking again for the same asks for nothing.
    """
    graver = [severity for severity in Severity if _GRAVITY.index(severity) <= _GRAVITY.index(Severity(event.severity))]
    targets = NotificationTarget.objects.filter(is_enabled=True, severity__in=graver)
    if reason == DeliveryReason.RESOLVED:
        told = Delivery.objects.filter(event=event, reason=DeliveryReason.FIRING)
        targets = NotificationTarget.objects.filter(is_enabled=True, pk__in=told.values("target"))
    wanted = list(targets)
    if wanted and not is_silenced(event, now):
        rows = [
            Delivery(target=target, event=event, reason=reason, created_at=now, next_attempt_at=now)
            for target in wanted
        ]
        Delivery.objects.bulk_create(rows, ignore_conflicts=True)


def is_silenced(event: Event, now: datetime) -> bool:
    """Tell whether a silence covers the alert now: by its rule, its host, or a label of its host."""
    labels = event.host.labels if event.host else {}
    found = Silence.objects.filter(Q(rule="") | Q(rule=event.rule), starts_at__lte=now, ends_at__gt=now)
    found = found.filter(Q(host=None) | Q(host=event.host_id))
    return any(not silence.label_key or str(labels.get(silence.label_key)) == silence.label_value for silence in found)
