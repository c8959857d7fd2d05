"""The list of runs, and the panel of a host's or a device's runs, which their pages pull by its URL."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from django.core.exceptions import BadRequest
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from fleet.inventory import clusters
from fleet.models import Device, Host
from fleet.pages import sorting, timerange
from fleet.pages.sorting import Sorting
from fleet.web.csv_answer import csv_answer
from telemetry import wheels
from training.models import Run
from training.runs import queries, summaries
from training.runs.queries import Part, RunState
from training.runs.summaries import Summary

ROWS_A_PAGE = 50
_IN_PANEL = 6
_FILE_SECONDS = 20.0  # of working out figures that nobody has asked for before
_PAGE_SECONDS, _FRAGMENT_SECONDS = 0.0, 0.4  # the same: for the table that follows the page at once nobody waits
_FIGURES = ("step", "throughput", "mfu", "joule", "energy")
_CSV = ("run", "launch", "owner", "group", "state", "devices", "steps", "step_seconds", "throughput", "throughput_unit", "mfu",
        "per_joule", "per_joule_unit", "joules", "seconds", "why_unknown")  # fmt: skip
_CSV_PANEL = ("run", "launch", "owner", "group", "state", "ranks", "last_step_at")


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure of a row; while it is being worked out `why` says so."""

    key: str
    value: float | None
    unit: str
    why: str


@dataclass(frozen=True, slots=True)
class Row:
    """A run in a table: who it belongs to, whether it runs, what takes part in it, and its figures where they are asked for."""

    run: Run
    part: Part
    is_running: bool
    seconds: float
    summary: Summary | None = None

    @property
    def figures(self) -> list[Cell]:
        found = self.summary
        if found is None:
            return [Cell(key, None, "", "being worked out") for key in _FIGURES]
        made = (found.step_seconds, found.throughput, found.mfu, found.per_joule, found.joules)
        return [Cell(key, each.value, each.unit, each.why) for key, each in zip(_FIGURES, made, strict=True)]

    @property
    def trend(self) -> list[float | None]:
        return self.summary.trend if self.summary else []

    @property
    def flag(self) -> str:
        """Return what is wrong with the run, "" where nothing is seen to be."""
        n = self.summary.n_stragglers if self.summary else 0
        return "" if not n else "straggler" if n == 1 else f"{n} stragglers"

    @property
    def state(self) -> str:
        return RunState.RUNNING if self.is_running else RunState.ENDED

    @property
    def mark(self) -> str:
        return "run" if self.is_running else "stale"

    @property
    def who(self) -> str:
        return " · ".join(dict.fromkeys(part for part in (self.run.owner or self.run.user, self.run.group) if part))

    @property
    def ranks(self) -> str:
        return f"{self.part.n_ranks:,} rank{'' if self.part.n_ranks == 1 else 's'}"


def _figure(at: int, row: Row) -> float | None:
    return row.figures[at].value


_NEWEST = "-seen"
_OF_PARTS = {"devices", "steps"}
_NO_PART = Part()
_KEYS: Mapping[str, Callable[[Row], Any]] = {
    "seen": lambda row: row.run.last_step_at,
    "run": lambda row: row.run.name.casefold(),
    "state": lambda row: row.state,
    "devices": lambda row: row.part.devices,
    "steps": lambda row: row.part.n_steps,
    **{key: partial(_figure, at) for at, key in enumerate(_FIGURES)},
    "duration": lambda row: row.seconds,
}


def rows(found: Iterable[Run], now: datetime, window_ms: int = 0, seconds: float | None = None) -> list[Row]:
    """Return the rows of these runs; with their figures over the last `window_ms` of each where that is asked for.

    Where `seconds` do not suffice for all figures, those of the last are "being worked out".
    """
    runs_ = list(found)
    parts = queries.parts(runs_)
    told = summaries.summaries(runs_, window_ms, now, seconds) if window_ms else {}
    return [_row(run, parts[run.pk], now, told.get(run.pk)) for run in runs_]


def _row(run: Run, part: Part, now: datetime, summary: Summary | None) -> Row:
    began, ended = queries.life_ms(run, now)
    return Row(run, part, run.is_running(now), (ended - began) / 1000, summary)


@require_safe
def runs(request: HttpRequest) -> HttpResponse:
    """List the runs; htmx gets the table alone."""
    now = timezone.now()
    text, state = request.GET.get("q", "").strip(), request.GET.get("state", "")
    if state and state not in set(RunState):
        raise BadRequest(f"state: expected one of {', '.join(RunState)}")
    window, there = timerange.of_query(request.GET, now), clusters.every()
    cluster = clusters.of_query(request.GET, there)
    found = queries.runs(now, state=RunState(state) if state else None, text=text, cluster=cluster)
    window_ms = timerange.RANGES[window.key] * 1000
    order = sorting.of_query(request.GET, _KEYS, _NEWEST)
    if request.GET.get("format") == "csv":
        every = order.arranged(rows(found, now, window_ms, _FILE_SECONDS), _KEYS[order.key])
        return csv_answer("runs", _CSV, map(_csv_row, every))
    is_fragment = bool(request.htmx)  # type: ignore[attr-defined]  # set by django-htmx's middleware
    seconds = _FRAGMENT_SECONDS if is_fragment else _PAGE_SECONDS
    context = _page(found, order, request.GET.get("page"), now, window_ms, seconds) | {
        "range_words": window.words,
        "q": text,
        "state": state,
        "is_filtered": bool(text or state) or cluster is not None,
        "path": request.get_full_path(),
    }
    if is_fragment:
        return render(request, "training/_runs.html", context)
    counts, client_url = _counts(now, text, cluster), partial(_client_url, request)
    still = {"counts": counts, "client_url": client_url, "clusters": there}
    return render(request, "training/runs.html", context | still)


def _page(
    found: QuerySet[Run], order: Sorting, page: str | None, now: datetime, window_ms: int, seconds: float
) -> dict[str, Any]:
    """Return a page of the list; `n_untold` runs are without figures yet: of the page or, sorted by one, of all."""
    is_by_figure = order.key in _FIGURES
    told = summaries.summaries(found, window_ms, now, seconds) if is_by_figure else {}
    ordered = found if order.text == _NEWEST else _arranged(found, order, now, told)
    shown = Paginator(ordered, ROWS_A_PAGE).get_page(page)
    runs_ = list(shown.object_list)
    told = told if is_by_figure else summaries.summaries(runs_, window_ms, now, seconds)
    parts = queries.parts(runs_)
    return {
        "rows": [_row(run, parts[run.pk], now, told.get(run.pk)) for run in runs_],
        "page": shown,
        "n_untold": (shown.paginator.count if is_by_figure else len(runs_)) - len(told),
        "is_by_figure": is_by_figure,
        "sorting": order,
    }


def _arranged(found: Iterable[Run], order: Sorting, now: datetime, told: Mapping[int, Summary]) -> list[Run]:
    """Return all the runs in the order asked for; those whose figure is not known, or not yet, stand last."""
    runs_ = list(found)
    parts = queries.parts(runs_) if order.key in _OF_PARTS else {}
    rows_ = (_row(run, parts.get(run.pk, _NO_PART), now, told.get(run.pk)) for run in runs_)
    return [row.run for row in order.arranged(rows_, _KEYS[order.key])]


def _client_url(request: HttpRequest) -> str:
    """Return where the client's wheel lies; "" where this server offers none."""
    name = next((name for name in wheels.offered() if name.startswith("stepwatt-")), "")
    return request.build_absolute_uri(reverse("dist-file", args=[name])) if name else ""


def _csv_row(row: Row) -> tuple[object, ...]:
    step, work, mfu, per_joule, joules = row.figures
    run = row.run
    return (
        run.name, run.launch, run.owner or run.user, run.group, row.state, row.part.devices, row.part.n_steps, step.value,
        work.value, work.unit, mfu.value, per_joule.value, per_joule.unit, joules.value, row.seconds, step.why,
    )  # fmt: skip


def _counts(now: datetime, text: str, cluster: str | None) -> dict[str, int]:
    every = queries.runs(now, text=text, cluster=cluster).count()
    running = queries.runs(now, text=text, cluster=cluster, state=RunState.RUNNING).count()
    return {"all": every, "running": running, "ended": every - running}


def _csv_panel_row(row: Row) -> tuple[object, ...]:
    run = row.run
    return (run.name, run.launch, run.owner or run.user, run.group, row.state, row.part.n_ranks, run.last_step_at)


@require_safe
def running(request: HttpRequest) -> HttpResponse:
    """Show the newest runs of a host (`?host=`) or a device (`?device=`)."""
    host, device, now = request.GET.get("host", ""), request.GET.get("device", ""), timezone.now()
    if host:
        get_object_or_404(Host, name=host)
    if device:
        get_object_or_404(Device, uuid=device)
    found = queries.runs(now, host=host, device=device)
    if request.GET.get("format") == "csv":
        return csv_answer("runs", _CSV_PANEL, map(_csv_panel_row, rows(found, now)))
    found = found[:_IN_PANEL]
    return render(request, "training/_running.html", {"rows": rows(found, now), "path": request.get_full_path()})
