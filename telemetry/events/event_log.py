"""What happened to hosts and devices, newest first: the read side of the events page, of the other pages' lists, and of the API.

Events are written by fleet/inventory/events.py, alerts by telemetry/health. A part (a MIG instance) has events of its own.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from django.db.models import Case, Expression, F, Q, QuerySet, Value, When

from fleet.inventory import clusters
from fleet.models import Device, Event, EventKind, Host, Severity
from telemetry.health import rules
from telemetry.health.alerts import State

_FIRING_FIRST = Case(When(acknowledged_at=None, then=Value(0)), default=Value(1))
_GRAVEST_FIRST = Case(*(When(severity=each, then=Value(-rank)) for rank, each in enumerate(Severity)))
ORDERS: Mapping[str, Expression | F] = {
    "severity": _GRAVEST_FIRST,
    "where": F("host__name"),
    "since": F("first_at"),
    "last": F("last_at"),
    "times": F("count"),
}
_IN_STATE = {
    State.FIRING: {"rule__gt": "", "resolved_at__isnull": True, "acknowledged_at__isnull": True},
    State.ACKNOWLEDGED: {"rule__gt": "", "resolved_at__isnull": True, "acknowledged_at__isnull": False},
    State.RESOLVED: {"rule__gt": "", "resolved_at__isnull": False},
}


@dataclass(frozen=True, slots=True)
class Question:
    """Which events; what is None or "" is not asked for. An event lies in a span where any of its occurrences may.

    Those of a `host`, or of a `cluster`'s, are also the alerts about several hosts together of which it is one.
    Each word of `text` must stand in what happened, where, or in the name of kind or rule; `pks` are those alone.
    """

    host: Host | None = None
    cluster: str | None = None
    device: Device | None = None
    kind: EventKind | None = None
    severity: Severity | None = None
    start: datetime | None = None
    end: datetime | None = None
    rule: str | None = None
    state: State | None = None
    text: str = ""
    pks: Collection[int] | None = None

    def find(self) -> QuerySet[Event]:
        """Return the events, newest first, with their host and device."""
        asked = {
            "device": self.device,
            "kind": self.kind,
            "severity": self.severity,
            "last_at__gte": self.start,
            "first_at__lt": self.end,
            "rule": self.rule,
            "pk__in": self.pks,
        }
        found = Event.objects.filter(**{name: value for name, value in asked.items() if value is not None})
        if self.host is not None:
            found = found.filter(_at(self.host))
        if self.cluster is not None:
            found = found.filter(clusters.events_of(self.cluster))
        if self.state is not None:
            found = found.filter(**_IN_STATE[self.state])
        for word in self.text.split():
            found = found.filter(_holds(word))
        return found.select_related("host", "device__host")

    def find_open(self) -> QuerySet[Event]:
        """Return the alerts among them that are not resolved: the firing ones first, then the gravest, then the newest."""
        found = replace(self, start=None).find()  # what is open goes on, also where nobody has seen it of late
        return found.filter(rule__gt="", resolved_at=None).order_by(_FIRING_FIRST, _GRAVEST_FIRST, "-first_at", "-pk")

    def find_past(self) -> QuerySet[Event]:
        """Return the others, newest first."""
        return self.find().exclude(rule__gt="", resolved_at=None)


def _at(host: Host) -> Q:
    """Where there is no alert about several hosts, the index of a host's events gives them in their order."""
    together = list(Event.hosts.through.objects.filter(host=host).values_list("event", flat=True))
    return Q(host=host) | Q(pk__in=together) if together else Q(host=host)


def _holds(word: str) -> Q:
    named = [name for name, rule in rules.by_name().items() if word.lower() in rule.words.lower()]
    kinds = [kind.value for kind in EventKind if word.lower() in kind.label.lower()]
    found = Q(text__icontains=word) | Q(host__name__icontains=word) | Q(subject__icontains=word)
    return found | Q(rule__in=named) | Q(kind__in=kinds)


def newest(question: Question, limit: int) -> Sequence[Event]:
    return list(question.find()[:limit])
