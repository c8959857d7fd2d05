"""What the address of the events page asks for. Called by the page (events.py)."""

from datetime import UTC, datetime
from typing import TypeVar

from django.core.exceptions import BadRequest
from django.http import Http404, QueryDict
from django.utils import timezone

from fleet.inventory import clusters
from fleet.models import Device, EventKind, Host, Severity
from fleet.pages import timerange
from telemetry.events.event_log import Question
from telemetry.health import rules
from telemetry.health.alerts import State

Choice = TypeVar("Choice", EventKind, Severity, State)
_MOST_DIGITS = 18
FILTERS = ("cluster", "host", "device", "kind", "severity", "rule", "state", "q", "event", "range", "from", "to")
SILENCED = "silenced"  # an open alert that nobody is told of: no state of its own


def question_of(query: QueryDict) -> Question:
    """Return what the address asks for. Raises BadRequest, or Http404 for a cluster, host or device that is not known."""
    window = timerange.of_query(query, timezone.now()) if "range" in query or "from" in query else None
    return Question(
        cluster=clusters.of_query(query),
        host=_host(query.get("host", "")),
        device=_device(query.get("device", "")),
        kind=_choice(query, "kind", EventKind),
        severity=_choice(query, "severity", Severity),
        rule=rule_of(query.get("rule", "")),
        state=None if query.get("state") == SILENCED else _choice(query, "state", State),
        start=None if window is None else datetime.fromtimestamp(window.start_ms / 1000, UTC),
        end=None if window is None else datetime.fromtimestamp(window.end_ms / 1000, UTC),
        text=query.get("q", "").strip()[:200],
        pks=_pks(query.get("event", "")),
    )


def _choice(query: QueryDict, name: str, choices: type[Choice]) -> Choice | None:
    asked = query.get(name, "")
    values = [choice.value for choice in choices]
    if asked and asked not in values:
        raise BadRequest(f"{name}: expected one of {', '.join(values)}")
    return choices(asked) if asked else None


def rule_of(name: str) -> str | None:
    if name and name not in rules.by_name():
        raise BadRequest(f"rule: expected one of {', '.join(rules.by_name())}")
    return name or None


def _pks(text: str) -> list[int] | None:
    """A link of a notification names one event."""
    if not text:
        return None
    pk = number_of(text)
    if pk is None:
        raise BadRequest("event: expected the number of an event")
    return [pk]


def number_of(text: str) -> int | None:
    """Return the number of an event, None where the text is none."""
    return int(text) if text.isdecimal() and len(text) <= _MOST_DIGITS else None


def _host(name: str) -> Host | None:
    if not name:
        return None
    found = Host.objects.filter(name=name).first()
    if found is None:
        raise Http404(f"There is no host named {name}.")
    return found


def _device(uuid: str) -> Device | None:
    if not uuid:
        return None
    found = Device.objects.select_related("host").filter(uuid=uuid).first()
    if found is None:
        raise Http404(f"There is no device {uuid}.")
    return found
