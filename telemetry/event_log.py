"""What happened to hosts and devices, newest first: the read side of the events page, of the other pages' lists, and of the API.

Events are written by fleet/events.py, alerts by telemetry/health. A part (a MIG instance) has events of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from django.db.models import Case, QuerySet, Value, When

from fleet.models import Device, Event, EventKind, Host, Severity
from telemetry.health.alerts import State

_FIRING_FIRST = Case(When(acknowledged_at=None, then=Value(0)), default=Value(1))
_GRAVEST_FIRST = Case(*(When(severity=each, then=Value(-rank)) for rank, each in enumerate(Severity)))
_IN_STATE = {
    State.FIRING: {"rule__gt": "", "resolved_at__isnull": True, "acknowledged_at__isnull": True},
    State.ACKNOWLEDGED: {"rule__gt": "", "resolved_at__isnull": True, "acknowledged_at__isnull": False},
    State.RESOLVED: {"rule__gt": "", "resolved_at__isnull": False},
}


@dataclass(frozen=True, slots=True)
class Question:
    """Which events; what is None is not asked for. An event lies in a span where any of its occurrences may."""

    host: Host | None = None
    device: Device | None = None
    kind: EventKind | None = None
    severity: Severity | None = None
    start: datetime | None = None
    end: datetime | None = None
    rule: str | None = None
    state: State | None = None

    def find(self) -> QuerySet[Event]:
        """Return the events, newest first, with their host and device."""
        asked = {
            "host": self.host,
            "device": self.device,
            "kind": self.kind,
            "severity": self.severity,
            "last_at__gte": self.start,
            "first_at__lt": self.end,
            "rule": self.rule,
        }
        found = Event.objects.filter(**{name: value for name, value in asked.items() if value is not None})
        if self.state is not None:
            found = found.filter(**_IN_STATE[self.state])
        return found.select_related("host", "device__host")

    def find_open(self) -> QuerySet[Event]:
        """Return the alerts among them that are not resolved: the firing ones first, then the gravest, then the newest."""
        found = replace(self, start=None).find()  # what is open goes on, also where nobody has seen it of late
        return found.filter(rule__gt="", resolved_at=None).order_by(_FIRING_FIRST, _GRAVEST_FIRST, "-first_at", "-pk")

    def find_past(self) -> QuerySet[Event]:
        """Return the others, newest first."""
        return self.find().exclude(rule__gt="", resolved_at=None)


def newest(question: Question, limit: int) -> Sequence[Event]:
    return list(question.find()[:limit])
