"""The events page: what happened, newest first, filtered by its address. Answers as page and as its live fragment."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from django.core.exceptions import BadRequest
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from fleet import timerange, units
from fleet.models import Device, Event, EventKind, Host, Severity
from telemetry.event_log import Question

Choice = TypeVar("Choice", EventKind, Severity)
PAGE_SIZE = 50
SHAPES = {Severity.CRITICAL: "crit", Severity.WARNING: "warn", Severity.INFO: "idle"}
_NAMES = {"action": "what to do", "epoch": "agent's life", "other_epoch": "the other one's"}
_IN_THE_TEXT = {"changed", "notices"}  # what changed stands in the text; the ids of notices are for the ingest
_FILTERS = ("host", "device", "kind", "severity", "range", "from", "to")


@dataclass(frozen=True, slots=True)
class Row:
    """An event with what proves it, in words."""

    event: Event
    evidence: list[tuple[str, str]]


@require_safe
def events(request: HttpRequest) -> HttpResponse:
    question = _question(request.GET)
    found = question.find()
    page = Paginator(found, PAGE_SIZE).get_page(request.GET.get("page"))
    rows = [Row(event, evidence(event)) for event in page]
    context = {
        "page": page,
        "rows": rows,
        "question": question,
        "is_filtered": any(request.GET.get(name) for name in _FILTERS),
    }
    if request.htmx:  # type: ignore[attr-defined]  # set by django-htmx's middleware
        return render(request, "telemetry/_events.html", context)
    choices = {
        "kinds": [EventKind(kind) for kind in sorted(set(_kinds()))],
        "severities": {severity: SHAPES[severity] for severity in reversed(Severity)},
        "ranges": timerange.WORDS,
        "hosts": list(Host.objects.values_list("name", flat=True)),
    }
    return render(request, "telemetry/events.html", context | choices)


def evidence(event: Event) -> list[tuple[str, str]]:
    """Return what the event's detail tells besides its text, as (name, words)."""
    found = []
    for name, value in event.detail.items():
        if not value or name in _IN_THE_TEXT:
            continue
        words = str(value)
        if name.endswith("_ms") and isinstance(value, int):
            words = units.utc(datetime.fromtimestamp(value / 1000, UTC))
        found.append((_NAMES.get(name, name.removesuffix("_ms").replace("_", " ")), words))
    return found


def _kinds() -> list[str]:
    """Return the kinds of events that there are."""
    return list(Event.objects.order_by().values_list("kind", flat=True).distinct())


def _question(query: QueryDict) -> Question:
    """Return what the address asks for. Raises BadRequest, or Http404 for a host or device that is not known."""
    window = timerange.of_query(query, timezone.now()) if "range" in query or "from" in query else None
    return Question(
        host=_host(query.get("host", "")),
        device=_device(query.get("device", "")),
        kind=_choice(query, "kind", EventKind),
        severity=_choice(query, "severity", Severity),
        start=None if window is None else datetime.fromtimestamp(window.start_ms / 1000, UTC),
        end=None if window is None else datetime.fromtimestamp(window.end_ms / 1000, UTC),
    )


def _choice(query: QueryDict, name: str, choices: type[Choice]) -> Choice | None:
    asked = query.get(name, "")
    if asked and asked not in choices.values:
        raise BadRequest(f"{name}: expected one of {', '.join(choices.values)}")
    return choices(asked) if asked else None


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
