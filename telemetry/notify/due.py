"""Which alerts are to be told to which targets: noted as deliveries, which telemetry/notify/deliver.py then sends.

Found by looking at what stands, not by being called when an alert opens: a process may be killed at any moment, a silence
may end while its alert is still open, and a target may be added later. Each is told once of an alert and once of its end.
"""

from datetime import datetime, timedelta

from django.db.models import Exists, OuterRef

from fleet.models import Event, Severity
from telemetry.models import Delivery, DeliveryReason, NotificationTarget
from telemetry.notify import silences

_RANK = {Severity.INFO: 0, Severity.WARNING: 1, Severity.CRITICAL: 2}
RESOLVED_WITHIN = timedelta(days=7)  # an end that nobody was told of for longer is no news any more


def note_due(now: datetime) -> int:
    """Note what is to be told; returns how many deliveries were noted. To be repeated every few seconds."""
    return _note_firing(now) + _note_resolved(now)


def _note_firing(now: datetime) -> int:
    """Alerts that are open, that nobody has acknowledged, and that no silence covers."""
    targets = list(NotificationTarget.objects.filter(is_enabled=True))
    if not targets:
        return 0
    open_alerts = Event.objects.filter(rule__gt="", resolved_at=None, acknowledged_at=None).select_related("host")
    events = silences.told(list(open_alerts), now)
    noted = set(
        Delivery.objects.filter(reason=DeliveryReason.FIRING, event__in=events).values_list("target_id", "event_id")
    )
    due = [
        Delivery(target=target, event=event, reason=DeliveryReason.FIRING, created_at=now, next_attempt_at=now)
        for target in targets
        for event in events
        if (target.pk, event.pk) not in noted and is_grave_enough(event, target)
    ]
    # Two workers may note the same at once: the constraint keeps one.
    Delivery.objects.bulk_create(due, ignore_conflicts=True)
    return len(due)


def is_grave_enough(event: Event, target: NotificationTarget) -> bool:
    return _RANK[Severity(event.severity)] >= _RANK[Severity(target.severity)]


def _note_resolved(now: datetime) -> int:
    """Whoever was told that an alert fires is told of its end; what had not been told yet need not be."""
    ended = Delivery.objects.filter(
        reason=DeliveryReason.FIRING, event__resolved_at__isnull=False, event__resolved_at__gt=now - RESOLVED_WITHIN
    )
    ended.filter(delivered_at=None, next_attempt_at__isnull=False).update(
        next_attempt_at=None, error="resolved before it could be told"
    )
    told_of_end = Delivery.objects.filter(
        target=OuterRef("target"), event=OuterRef("event"), reason=DeliveryReason.RESOLVED
    )
    pairs = ended.filter(delivered_at__isnull=False, target__is_enabled=True).exclude(Exists(told_of_end))
    due = [
        Delivery(target_id=target, event_id=event, reason=DeliveryReason.RESOLVED, created_at=now, next_attempt_at=now)
        for target, event in pairs.values_list("target_id", "event_id")
    ]
    Delivery.objects.bulk_create(due, ignore_conflicts=True)
    return len(due)
