"""Opening, refreshing, acknowledging and resolving alerts: events with a rule. Called by the watch, the API and the pages.

Each is one transaction with conditional writes; the database itself holds that a rule has one open alert a subject.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from fleet.access import audit
from fleet.access.audit import Actor
from fleet.models import Event, EventKind, Severity
from telemetry.health.rule import Rule, Sign
from telemetry.health.seen import Subject

REFRESH_EVERY = timedelta(minutes=1)  # an alert that goes on costs a write a minute, not one a pass
MAX_COMMENT = 500
_ROWS_AT_ONCE, _ALERTS_AT_ONCE = 100, 25  # a transaction of these stays short on SQLite


class State(StrEnum):
    """How an alert stands. Acknowledged: somebody knows of it; it still holds."""

    FIRING = "firing"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


class NotAcknowledged(Exception):
    """Nothing was changed; the text says why."""


class NotResolved(Exception):
    """Nothing was changed; the text says why."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a rule found of a subject: since when, and with which thresholds."""

    rule: Rule
    subject: Subject
    sign: Sign
    limits: Mapping[str, float]
    since_ms: int

    @property
    def severity(self) -> Severity:
        return self.sign.severity or self.rule.severity

    def _is_for_subject(self, threshold: str) -> bool:
        """A budget of another cluster proves nothing of this one."""
        name, _, cluster = threshold.partition(":")
        is_of_cluster = self.rule.thresholds[name].by_cluster
        return not is_of_cluster or self.subject.name == (f"cluster:{cluster}" if cluster else "fleet")

    def detail(self, now: datetime) -> dict[str, Any]:
        """Return what proves the alert, and what to do: values in base units, thresholds, since when, when it was read."""
        return {
            "action": self.sign.advice or self.rule.advice,
            "values": dict(self.sign.values),
            "thresholds": {name: value for name, value in self.limits.items() if self._is_for_subject(name)},
            "since_ms": self.since_ms,
            "read_ms": int(now.timestamp() * 1000),
        }


def state_of(event: Event) -> State | None:
    """Return how an alert stands; None for an event that is none."""
    if not event.rule:
        return None
    if event.resolved_at is not None:
        return State.RESOLVED
    return State.FIRING if event.acknowledged_at is None else State.ACKNOWLEDGED


def open_alerts() -> QuerySet[Event]:
    """Return the alerts that are not resolved, by way of their index."""
    return Event.objects.filter(rule__gt="", resolved_at=None)


def open_alert(found: Found, now: datetime) -> Event | None:
    """Open an alert; None where one is open already. Who is to be told, telemetry/notify finds by what stands."""
    try:
        with transaction.atomic():
            event = Event.objects.create(
                kind=EventKind.HEALTH, severity=found.severity, host_id=found.subject.host_id,
                device_id=found.subject.device_id, rule=found.rule.name, subject=found.subject.name,
                text=found.sign.text[:500], detail=found.detail(now), last_at=now,
                first_at=datetime.fromtimestamp(found.since_ms / 1000, now.tzinfo),
            )  # fmt: skip
            if found.subject.members:
                event.hosts.set(found.subject.members)
    except IntegrityError:  # another pass was first, or its host was removed at this moment
        return None
    return event


def settle(opening: Sequence[Found], ending: Sequence[tuple[Event, str]], now: datetime) -> None:
    """Open these alerts, and resolve those, each with why it ends at once ("" where it stood clear). Called by the watch.

    Some share a transaction: where a whole row of hosts fails, a commit for each of thousands would take longer than a pass.
    """
    for first in range(0, len(opening), _ALERTS_AT_ONCE):
        with transaction.atomic():
            for found in opening[first : first + _ALERTS_AT_ONCE]:
                open_alert(found, now)
    for first in range(0, len(ending), _ALERTS_AT_ONCE):
        with transaction.atomic():
            for event, why in ending[first : first + _ALERTS_AT_ONCE]:
                resolve_alert(event, now, why)


def refresh(still: Sequence[tuple[Event, Found]], now: datetime) -> None:
    """Note that these alerts still hold, and how they stand now: once a minute, at once where one became graver."""
    due = {event.pk: found for event, found in still if _is_due(event, found, now)}
    pks = list(due)
    for first in range(0, len(pks), _ROWS_AT_ONCE):
        with transaction.atomic():
            rows = open_alerts().select_for_update(of=("self",)).filter(pk__in=pks[first : first + _ROWS_AT_ONCE])
            for event in rows:
                _refresh(event, due[event.pk], now)


def _is_due(event: Event, found: Found, now: datetime) -> bool:
    return now - event.last_at >= REFRESH_EVERY or found.severity != event.severity


def _refresh(event: Event, found: Found, now: datetime) -> None:
    """Write how it stands; since when it holds stays, and so does what people wrote."""
    event.severity, event.text, event.last_at = found.severity, found.sign.text[:500], now
    event.detail = event.detail | found.detail(now) | {"since_ms": event.detail.get("since_ms", found.since_ms)}
    event.save(update_fields=["severity", "text", "last_at", "detail"])
    if found.subject.members:
        event.hosts.set(found.subject.members)  # an alert of an earlier release does not know them


def resolve_alert(event: Event, now: datetime, why: str = "") -> bool:
    """Resolve an open alert; False where it was resolved before."""
    with transaction.atomic():
        if not open_alerts().filter(pk=event.pk).update(resolved_at=now):
            return False
        event.resolved_at = now
        if why:
            event.detail = Event.objects.values_list("detail", flat=True).get(pk=event.pk) | {"resolved": why}
            event.save(update_fields=["detail"])
    return True


def acknowledge(pk: int, actor: Actor, now: datetime, comment: str = "") -> Event:
    """Note that somebody knows of an open alert. Raises Event.DoesNotExist, NotAcknowledged."""
    with transaction.atomic():
        event = Event.objects.select_for_update(of=("self",)).select_related("host", "device__host").get(pk=pk)
        if not event.rule:
            raise NotAcknowledged("this event is no alert: there is nothing to acknowledge")
        if event.resolved_at is not None:
            raise NotAcknowledged("this alert is resolved")
        if event.acknowledged_at is not None:
            raise NotAcknowledged(f"{event.acknowledged_by} has acknowledged this alert")
        event.acknowledged_at, event.acknowledged_by = now, actor.name
        event.detail = event.detail | ({"comment": comment[:MAX_COMMENT]} if comment else {})
        event.save(update_fields=["acknowledged_at", "acknowledged_by", "detail"])
        detail = {"rule": event.rule, "event": event.pk} | ({"comment": comment[:MAX_COMMENT]} if comment else {})
        audit.record(actor.name, "event.acknowledge", event.subject, detail, actor.address)
    return event


def resolve(pk: int, actor: Actor, now: datetime) -> Event:
    """End an open alert by hand; the watch raises it again where its rule still finds it.

    Raises Event.DoesNotExist, NotResolved.
    """
    with transaction.atomic():
        event = Event.objects.select_related("host", "device__host").get(pk=pk)
        if not event.rule:
            raise NotResolved("this event is no alert: there is nothing to resolve")
        if not resolve_alert(event, now, f"by {actor.name}"):
            raise NotResolved("this alert is resolved already")
        audit.record(actor.name, "event.resolve", event.subject, {"rule": event.rule, "event": event.pk}, actor.address)
    return event
