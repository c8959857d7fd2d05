"""The events page: what is open, then what happened, newest first; filtered and sorted by its address. Page, fragment and CSV."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.db.models.expressions import OrderBy
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from fleet.access.auth import has_role
from fleet.inventory import clusters
from fleet.models import Event, EventKind, Role, Severity
from fleet.pages import sorting, timerange
from fleet.web.csv_answer import csv_answer
from telemetry.events import event_log
from telemetry.events.event_log import Question
from telemetry.health import alerts, rules
from telemetry.health.alerts import State
from telemetry.models import Silence
from telemetry.newest import host_columns
from telemetry.newest.host_columns import HostColumns
from telemetry.notify import silences, targets
from telemetry.views.event_question import FILTERS, SILENCED, number_of, question_of
from telemetry.views.event_words import evidence

PAGE_SIZE = 50
SHAPES = {Severity.CRITICAL: "crit", Severity.WARNING: "warn", Severity.INFO: "idle"}
_MOST_IN_A_FILE = 10_000
_DURATIONS = {60: "1 hour", 240: "4 hours", 1440: "24 hours", 10_080: "7 days", 43_200: "30 days"}
_CSV = ("id", "severity", "state", "kind", "rule", "text", "host", "device", "first_at", "last_at", "count",
        "acknowledged_by", "acknowledged_at", "resolved_at", "action")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """An event with what proves it, in words; of an alert how it stands, its rule, what silences it, and who works there."""

    event: Event
    state: State | None
    rule: str
    evidence: list[tuple[str, str]]
    silence: Silence | None
    job: HostColumns | None

    @property
    def is_open(self) -> bool:
        return self.state in {State.FIRING, State.ACKNOWLEDGED}


@require_safe
def events(request: HttpRequest) -> HttpResponse:
    question, now = question_of(request.GET), timezone.now()
    if request.GET.get("format") == "csv":
        return csv_answer("events", _CSV, map(_csv_row, _found(request, question, _covered(now))[:_MOST_IN_A_FILE]))
    if request.htmx:  # type: ignore[attr-defined]  # set by django-htmx's middleware
        return fragment(request)
    covered = _covered(now)
    number = number_of(request.GET.get("silence", ""))
    still = {
        "clusters": clusters.every(),
        "kinds": [EventKind(kind) for kind in sorted(set(_kinds()))],
        "severities": {severity: SHAPES[severity] for severity in reversed(Severity)},
        "rule_words": rules.words(question.rule) if question.rule else "",
        "ranges": timerange.WORDS,
        "rules": sorted(rules.by_name().values(), key=lambda rule: rule.words),
        "durations": _DURATIONS,
        "about": None if number is None else Event.objects.filter(pk=number).first(),
        "asks_silence": "silence" in request.GET,
        "states": _states(question, covered),
    }
    return render(request, "telemetry/events.html", _context(request, question, covered) | still)


def fragment(request: HttpRequest) -> HttpResponse:
    """Return the list as it was asked for; also after an alert was acknowledged or resolved."""
    question, covered = question_of(request.GET), _covered(timezone.now())
    more = {"states": _states(question, covered), "swap": True}
    return render(request, "telemetry/_events.html", _context(request, question, covered) | more)


def address_of(request: HttpRequest) -> str:
    query = request.GET.copy()
    query.pop("silence", None)
    return reverse("events") + (f"?{query.urlencode()}" if query else "")


def _covered(now: datetime) -> dict[int, Silence]:
    return silences.covered(alerts.open_alerts(), now)


def _states(question: Question, covered: Mapping[int, Silence]) -> list[tuple[str, str, int]]:
    """Return each state with its shape and how many alerts of the question are in it."""
    any_state = replace(question, state=None, start=None, end=None)
    counts = {state: replace(any_state, state=state).find().count() for state in State}
    n_silenced = any_state.find_open().filter(pk__in=covered).count() if covered else 0
    found = [(state.value, _STATE_SHAPES[state], counts[state]) for state in State]
    return [*found[:2], (SILENCED, "stale", n_silenced), *found[2:]]


_STATE_SHAPES = {State.FIRING: "crit", State.ACKNOWLEDGED: "run", State.RESOLVED: "ok"}


def _found(request: HttpRequest, question: Question, covered: Mapping[int, Silence]) -> QuerySet[Event]:
    """Return what the question finds in one list, in the order of the address; without one, newest first."""
    found = question.find()
    if request.GET.get("state") == SILENCED:
        found = found.filter(pk__in=covered)
    if not request.GET.get("sort"):
        return found
    order = sorting.of_query(request.GET, event_log.ORDERS, "-last")
    by = OrderBy(event_log.ORDERS[order.key], descending=order.is_descending, nulls_last=True)
    return found.order_by(by, "-last_at", "-pk")


def _context(request: HttpRequest, question: Question, covered: Mapping[int, Silence]) -> dict[str, object]:
    """What is open stands before the first page of the rest, a log that runs by time, unless another order is asked for."""
    page_number, is_silenced = request.GET.get("page"), request.GET.get("state") == SILENCED
    is_of_open = question.state in {State.FIRING, State.ACKNOWLEDGED} or is_silenced
    is_sorted = bool(request.GET.get("sort"))
    opened = question.find_open().filter(pk__in=covered) if is_silenced else question.find_open()
    first = Paginator(opened, PAGE_SIZE).get_page(page_number if is_of_open else 1)
    if is_sorted or is_of_open:
        page = Paginator(_found(request, question, covered), PAGE_SIZE).get_page(page_number) if is_sorted else first
        shown: list[Event] = list(page)
    else:
        page = Paginator(question.find_past(), PAGE_SIZE).get_page(page_number)
        shown = [*(first if page.number == 1 else []), *page]
    return {
        "page": page,
        "n_open": first.paginator.count,
        "n_more_open": 0 if is_of_open or is_sorted else first.paginator.count - len(first),
        "n_past": 0 if is_of_open else page.paginator.count - (first.paginator.count if is_sorted else 0),
        "rows": _rows(shown, covered),
        "question": question,
        "sorting": sorting.of_query(request.GET, [*event_log.ORDERS, "open"], "open"),
        "address": address_of(request),
        "is_operator": has_role(request, Role.OPERATOR),
        "is_filtered": any(request.GET.get(name) for name in FILTERS),
        "told": targets.with_last() if has_role(request, Role.OPERATOR) else None,
    }


def _rows(shown: Iterable[Event], covered: Mapping[int, Silence]) -> list[Row]:
    found = list(shown)
    hosts = {event.host_id for event in found if event.host_id and event.rule and event.resolved_at is None}
    jobs = host_columns.of_hosts(sorted(hosts), with_baselines=False) if hosts else {}
    return [
        Row(
            event=event,
            state=alerts.state_of(event),
            rule=rules.words(event.rule) if event.rule else "",
            evidence=evidence(event),
            silence=covered.get(event.pk),
            job=jobs.get(event.host_id or 0) if event.resolved_at is None else None,
        )
        for event in found
    ]


def _kinds() -> list[str]:
    """Return the kinds of events that there are."""
    return list(Event.objects.order_by().values_list("kind", flat=True).distinct())


def _csv_row(event: Event) -> tuple[object, ...]:
    state = alerts.state_of(event)
    return (
        event.pk, event.severity, state.value if state else "", event.kind, event.rule, event.text,
        event.host.name if event.host else "", event.device.uuid if event.device else "", event.first_at, event.last_at,
        event.count, event.acknowledged_by, event.acknowledged_at, event.resolved_at, event.detail.get("action", ""),
    )  # fmt: skip
