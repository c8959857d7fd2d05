"""Alerts, and who is to be told of them, for the tests of telling."""

from datetime import UTC, datetime, timedelta

from fleet.models import Event, EventKind, Severity
from telemetry.models import NotificationTarget, Silence

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def target(address, **fields):
    return NotificationTarget.objects.create(
        **{"name": "on call", "kind": "webhook", "address": address, "severity": Severity.WARNING, **fields}
    )


def alert(subject="host:gpu-a01", *, severity=Severity.CRITICAL, rule="host_silent", **fields):
    return Event.objects.create(
        kind=EventKind.HEALTH, severity=severity, rule=rule, subject=subject, text="no sample for 60 s",
        detail={"action": "look at its agent", "seconds": 60}, first_at=NOW, last_at=NOW, **fields,
    )  # fmt: skip


def resolve(event, at=NOW):
    Event.objects.filter(pk=event.pk).update(resolved_at=at)


def silence(**fields):
    times = {"starts_at": NOW - timedelta(hours=1), "ends_at": NOW + timedelta(hours=1)}
    return Silence.objects.create(comment="planned work", created_by="anna", **(times | fields))
