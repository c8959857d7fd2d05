"""What happened to hosts and devices, newest first: the read side of the events page, of the other pages' lists, and of the API.

Events are written by fleet/events.py. A part (a MIG instance) has events of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import QuerySet

from fleet.models import Device, Event, EventKind, Host, Severity


@dataclass(frozen=True, slots=True)
class Question:
    """Which events; what is None is not asked for. An event lies in a span where any of its occurrences may."""

    host: Host | None = None
    device: Device | None = None
    kind: EventKind | None = None
    severity: Severity | None = None
    start: datetime | None = None
    end: datetime | None = None

    def find(self) -> QuerySet[Event]:
        """Return the events, newest first, with their host and device."""
        asked = {
            "host": self.host,
            "device": self.device,
            "kind": self.kind,
            "severity": self.severity,
            "last_at__gte": self.start,
            "first_at__lt": self.end,
        }
        found = Event.objects.filter(**{name: value for name, value in asked.items() if value is not None})
        return found.select_related("host", "device__host")


def newest(question: Question, limit: int) -> Sequence[Event]:
    return list(question.find()[:limit])
