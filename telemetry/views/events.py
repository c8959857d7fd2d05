"""The events page: what is open, then what happened, newest first; filtered by its address. Answers as page and fragment."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from django.contrib import messages
from django.core.exceptions import BadRequest
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from fleet import timerange
from fleet.auth import actor_of, has_role, require_role
from fleet.models import Device, Event, EventKind, Host, Role, Severity
from telemetry.event_log import Question
from telemetry.health import alerts, rules
from telemetry.health.alerts import State
from telemetry.views.event_words import evidence

Choice = TypeVar("Choice", EventKind, Severity, State)
PAGE_SIZE = 50
SHAPES = {Severity.CRITICAL: "crit", Severity.WARNING: "warn", Severity.INFO: "idle"}
_FILTERS = ("host", "device", "kind", "severity", "rule", "state", "range", "from", "to")


@dataclass(frozen=True, slots=True)
class Row:
    """An event with what proves it, in words; of an alert how it stands, and what its rule is called."""

    event: Event
    state: State | None
    rule: str
    evidence: list[tuple[str, str]]


@require_safe
def events(request: HttpRequest) -> HttpResponse:
    question = _question(request.GET)
    if request.htmx:  # type: ignore[attr-defined]  # set by django-htmx's middleware
        return _fragment(request, question)
    choices = {
        "kinds": [EventKind(kind) for kind in sorted(set(_kinds()))],
        "severities": {severity: SHAPES[severity] for severity in reversed(Severity)},
        "states": list(State),
        "rule_words": rules.words(question.rule) if question.rule else "",
        "ranges": timerange.WORDS,
        "hosts": list(Host.objects.values_list("name", flat=True)),
    }
    return render(request, "telemetry/events.html", _context(request, question) | choices)


@require_role(Role.OPERATOR)
@require_POST
def acknowledge(request: HttpRequest, pk: int) -> HttpResponse:
    """Note that somebody knows of an alert; answers with the list as it was asked for, or leads back to it."""
    try:
        alerts.acknowledge(pk, actor_of(request), timezone.now())
    except Event.DoesNotExist:
        raise Http404(f"There is no event {pk}.") from None
    except alerts.NotAcknowledged as error:
        messages.error(request, f"Nothing was changed: {error}.")
    if request.htmx:  # type: ignore[attr-defined]  # set by django-htmx's middleware
        return _fragment(request, _question(request.GET))
    return redirect(_address(request))


def _fragment(request: HttpRequest, question: Question) -> HttpResponse:
    return render(request, "telemetry/_events.html", _context(request, question))


def _context(request: HttpRequest, question: Question) -> dict[str, object]:
    """What is open stands before the first page of the rest, which is a log and runs by time."""
    page = Paginator(question.find_past(), PAGE_SIZE).get_page(request.GET.get("page"))
    is_of_open = question.state in {State.FIRING, State.ACKNOWLEDGED}
    first = Paginator(question.find_open(), PAGE_SIZE).get_page(request.GET.get("page") if is_of_open else 1)
    shown = list(first) if is_of_open or page.number == 1 else []
    return {
        "page": first if is_of_open else page,
        "n_open": first.paginator.count,
        "n_more_open": 0 if is_of_open else first.paginator.count - len(first),
        "n_past": page.paginator.count,
        "rows": [_row(event) for event in (*shown, *([] if is_of_open else page))],
        "question": question,
        "address": _address(request),
        "is_operator": has_role(request, Role.OPERATOR),
        "is_filtered": any(request.GET.get(name) for name in _FILTERS),
    }


def _address(request: HttpRequest) -> str:
    query = request.GET.urlencode()
    return reverse("events") + (f"?{query}" if query else "")


def _row(event: Event) -> Row:
    return Row(event, alerts.state_of(event), rules.words(event.rule) if event.rule else "", evidence(event))


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
        rule=_rule(query.get("rule", "")),
        state=_choice(query, "state", State),
        start=None if window is None else datetime.fromtimestamp(window.start_ms / 1000, UTC),
        end=None if window is None else datetime.fromtimestamp(window.end_ms / 1000, UTC),
    )


def _choice(query: QueryDict, name: str, choices: type[Choice]) -> Choice | None:
    asked = query.get(name, "")
    values = [choice.value for choice in choices]
    if asked and asked not in values:
        raise BadRequest(f"{name}: expected one of {', '.join(values)}")
    return choices(asked) if asked else None


def _rule(name: str) -> str | None:
    if name and name not in rules.by_name():
        raise BadRequest(f"rule: expected one of {', '.join(rules.by_name())}")
    return name or None


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
