"""What the page of a run fetches: the arrays of its charts, and its steps as a file."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson
from django.core.exceptions import BadRequest
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from fleet.web.csv_answer import csv_answer
from fleet.web.streamed_file import streamed_file
from training.models import Run
from training.runs import comparison, queries, stragglers
from training.runs import stack as run_stack
from training.runs.members import members
from training.runs.stack import Content, Stack
from training.steps import canonical_csv, grid, spans
from training.steps.columns import StepColumns
from training.steps.store import read
from training.views import run_ranks, run_window
from training.views.kept import kept
from training.views.run_window import RunWindow
from training.views.stack_address import of_query

_MOST_DIGITS = 15
_MERGED_SHARE = 0.004  # of the window: what is closer than that, in a pixel or three, is one span


def found_run(run_id: int) -> Run:
    found = queries.find(run_id)
    if found is None:
        raise Http404(f"There is no run {run_id}.")
    return found


@require_safe
def arrays(request: HttpRequest, run_id: int) -> HttpResponse:
    """Return the values of the charts that the address names, over the window."""
    run, now = found_run(run_id), timezone.now()
    stack, window = of_query(request.GET), run_window.of_query(request.GET, run, now)
    return _json(kept(run, now, request.get_full_path(), lambda: _filled(run, stack, window)))


def _filled(run: Run, stack: Stack, window: RunWindow) -> bytes:
    who = members(run)
    window = run_window.readable(window, who)
    steps = read.steps(run, window.start_ms, window.end_ms, columns=stack.columns)
    content = Content(
        steps=steps,
        who=who,
        start_ms=window.start_ms,
        end_ms=window.end_ms,
        spans=spans.spans(steps, (window.end_ms - window.start_ms) * _MERGED_SHARE),
    )
    charts = run_stack.arrays(stack, content)
    return orjson.dumps({"range": [window.start_ms, window.end_ms], "charts": charts})


def _json(body: bytes) -> HttpResponse:
    return HttpResponse(body, content_type="application/json")


@require_safe
def compare_arrays(request: HttpRequest, run_id: int) -> HttpResponse:
    """Return the values of the charts by step number: those of the run, and of the one `with` which it is compared."""
    run, other, now = found_run(run_id), other_run(request), timezone.now()
    if other is None:
        raise BadRequest("with: expected the number of a run")
    own, its = (_of_window(request, each, now) for each in (run, other))
    drawn = comparison.compare_arrays(own, its)
    return _compared_file(run, other, drawn) if request.GET.get("format") == "csv" else _json(orjson.dumps(drawn))


def _compared_file(run: Run, other: Run, drawn: Mapping[str, Any]) -> HttpResponse:
    """Return what the charts of both runs show: a row a run and step number."""
    rows: dict[tuple[str, float], dict[str, float | None]] = {}
    for chart in comparison.CHARTS:
        for who, trace in zip((other, run), drawn["charts"][chart.id]["traces"], strict=True):
            for number, value in zip(trace["x"], trace["y"], strict=True):
                rows.setdefault((f"{who.name} ({who.pk})", number), {})[chart.key] = value
    keys = [chart.key for chart in comparison.CHARTS]
    return csv_answer(
        "comparison", ("run", "step", *keys), ((*at, *map(told.get, keys)) for at, told in sorted(rows.items()))
    )


def other_run(request: HttpRequest) -> Run | None:
    """Return the run that `with` names, None where it names none. Raises BadRequest and Http404."""
    text = request.GET.get("with", "")
    if not text:
        return None
    if not text.isdecimal() or len(text) > _MOST_DIGITS:
        raise BadRequest("with: expected the number of a run")
    return found_run(int(text))


def _of_window(request: HttpRequest, run: Run, now: datetime) -> StepColumns:
    window = run_window.readable(run_window.of_query(request.GET, run, now), members(run))
    return read.steps(run, window.start_ms, window.end_ms, columns=("number", "kind", "seconds", "loss"))


@require_safe
def ranks(request: HttpRequest, run_id: int) -> HttpResponse:
    """Return every rank of the window as CSV."""
    run = found_run(run_id)
    who = members(run)
    window = run_window.readable(run_window.of_query(request.GET, run, timezone.now()), who)
    steps = read.steps(run, window.start_ms, window.end_ms, columns=run_ranks.COLUMNS)
    rows = run_ranks.rows(steps, who, stragglers.judge(run_ranks.newest(steps)))
    told = run_ranks.csv_rows(rows, grid.median_by_rank(steps, "compute_seconds"))
    return csv_answer(f"{run.name}-{run.pk}-ranks", run_ranks.CSV_COLUMNS, told)


@require_safe
def steps(request: HttpRequest, run_id: int) -> StreamingHttpResponse:
    """Return the steps of the window as canonical CSV, which import_steps reads back. Raises BadRequest for too many."""
    run = found_run(run_id)
    window = run_window.of_query(request.GET, run, timezone.now())
    n_steps = members(run).foreseen(window.start_ms, window.end_ms)
    if n_steps > run_window.MOST_STEPS:
        raise BadRequest(
            f"about {n_steps:,} steps, at most {run_window.MOST_STEPS:,} in one file: choose a shorter window"
        )
    pieces = canonical_csv.pieces(read.steps(run, window.start_ms, window.end_ms))
    return streamed_file(request, f"{run.name}-{run.pk}-steps.csv", "text/csv; charset=utf-8", pieces)
