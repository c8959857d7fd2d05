"""The page of one run: facts, figures over any window, its charts on one time axis, ranks, phases, wall time, slow steps.

One view gives the page and its refresh; the charts' values are run_data's.
"""

from collections.abc import Iterator
from datetime import datetime
from math import nan
from typing import Any

import numpy as np
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from fleet.web.csv_answer import asked_table
from training.models import Run
from training.runs import comparison, device_readings, queries, stragglers
from training.runs import figures as run_figures
from training.runs import stack as run_stack
from training.runs.comparison import Difference
from training.runs.device_readings import POWER, Source
from training.runs.figures import RunFigures
from training.runs.members import Members, members
from training.runs.stack import Stack
from training.runs.stragglers import Judgement
from training.steps.store import read
from training.views import run_facts, run_panels, run_ranks, run_tiles, run_window, table_files
from training.views.kept import kept
from training.views.run_data import found_run, other_run
from training.views.run_window import RunWindow
from training.views.stack_address import address

_OTHERS = 30
_REACH_STEPS, _LEAST_REACH_MS = 10, 10_000  # before the newest step, in which a loss is looked for
_MOST_STEPS_AT_ONCE = 100_000  # of all ranks: what a page is made of while it is waited for
_SLOWEST_REFRESH, _QUICKEST_REFRESH = 300, 5  # seconds


@require_safe
def run(request: HttpRequest, run_id: int) -> HttpResponse:
    """Show the run; htmx gets what follows the window and the newest steps.

    Of a window with many steps the page comes first, and asks for its figures itself.
    """
    found, other, now = found_run(run_id), other_run(request), timezone.now()
    window = run_window.of_query(request.GET, found, now)
    files = {
        "phases": lambda: table_files.phases(f"run-{run_id}-phases", _live(found, window, now)["phases"]),
        "comparison": lambda: table_files.comparison(f"run-{run_id}", *_other_side(found, other, window, now)),
    }
    if (file := asked_table(request.GET, files)) is not None:
        return file
    if request.htmx:  # type: ignore[attr-defined]  # set by django-htmx's middleware
        body = kept(
            found,
            now,
            request.get_full_path(),
            lambda: render_to_string("training/_run.html", _live(found, window, now)),
        )
        return HttpResponse(body)
    context = _page(request, found, window, now)
    if other is not None:
        context |= _compared(found, other, window, now)
    return render(request, "training/run.html", context)


def _page(request: HttpRequest, found: Run, window: RunWindow, now: datetime) -> dict[str, Any]:
    """Return what the page needs; its figures where they are quickly made, else those of the last part say what is drawn."""
    who = members(found)
    window = run_window.readable(window, who)
    part = run_window.last_part(window, who, _MOST_STEPS_AT_ONCE)
    figures = run_figures.figures(found, part.start_ms, part.end_ms, who=who)
    judged = _judged(figures)
    is_whole = part == window
    return {
        "run": found,
        "window": window,
        "is_running": found.is_running(now),
        "is_deferred": not is_whole,
        "every": max(_QUICKEST_REFRESH, min(_SLOWEST_REFRESH, round(window.seconds / 360))),
        "path": request.get_full_path(),
        "why": f"{reverse('training:run-why', args=[found.pk])}?range={window.key}",
        "csv": f"{reverse('training:run-steps', args=[found.pk])}?range={window.key}",
        "others": queries.runs(now).exclude(pk=found.pk)[:_OTHERS],
        "origins": sorted({host.origin for host in who.hosts}),
        "awaited_rows": range(min(who.n_ranks, run_ranks.ROWS)),
        **_charts(found, figures, judged, who, window),
        **(_context(found, figures, judged, who, window, now) if is_whole else _about(found, who, now)),
    }


def _live(found: Run, window: RunWindow, now: datetime) -> dict[str, Any]:
    """Return what changes with the window and with time."""
    who = members(found)
    window = run_window.readable(window, who)
    figures = run_figures.figures(found, window.start_ms, window.end_ms, who=who)
    return _context(found, figures, _judged(figures), who, window, now)


def _context(
    found: Run, figures: RunFigures, judged: Judgement, who: Members, window: RunWindow, now: datetime
) -> dict[str, Any]:
    return {
        "run": found,
        "window": window,
        "pills": run_facts.pills(found, who, now, n_stragglers=len(judged.stragglers)),
        "facts": run_facts.facts(found, who, now, figures),
        "tiles": run_tiles.tiles(figures),
        "phases": run_panels.phase_rows(figures.phases, figures.step_times.median),
        "wall_time": run_panels.wall_time(figures.goodput),
    }


def _about(found: Run, who: Members, now: datetime) -> dict[str, Any]:
    """Return what is known of the run before its steps are read."""
    return {"pills": run_facts.pills(found, who, now), "facts": run_facts.facts(found, who, now)}


def _judged(figures: RunFigures) -> Judgement:
    return stragglers.judge(run_ranks.newest(figures.steps))


def _charts(
    found: Run, figures: RunFigures, judged: Judgement, who: Members, window: RunWindow
) -> dict[str, Any]:  # fmt: skip
    sources = device_readings.offered(who, window.start_ms, window.end_ms)
    slowest = who.of_rank(judged.stragglers[0].rank) if judged.stragglers else None
    device = slowest.device if slowest is not None else None
    mfu_of, mfu_per_rate = _mfu_per_rate(figures)
    stack = Stack(
        rows=list(_rows(found, figures, sources)),
        phases=run_panels.stacked_phases(figures.phases),
        metrics=[source.name for source in sources],
        device=device.uuid if device else "",
        device_words=f"rank {slowest.rank}" if slowest and device else "",
        mfu_of=mfu_of,
        mfu_per_rate=mfu_per_rate,
        onset_ms=judged.stragglers[0].since_ms if slowest else nan,
        slow_rank=slowest.rank if slowest else 0,
        shared_with=", ".join(figures.energy.shared_with) if figures.energy else "",
    )
    return {"charts": list(run_stack.charts(stack, who)), "arrays": address(stack, found, window.key)}


def _mfu_per_rate(figures: RunFigures) -> tuple[str, float]:
    """Return what MFU is proportional to, and its ratio at one of these a second; NaN where there is no MFU."""
    for name, rate in (("samples", figures.samples_per_second), ("tokens", figures.tokens_per_second)):
        if figures.mfu.value is not None and rate.value:
            return name, figures.mfu.value / rate.value
    return "samples", nan


def _rows(found: Run, figures: RunFigures, sources: list[Source]) -> Iterator[str]:
    """Yield the keys of the rows for which there is something to draw."""
    has_tokens, has_power = figures.tokens_per_second.value is not None, any(s.metric == POWER for s in sources)
    yield "step"
    if has_tokens or figures.samples_per_second.value is not None:
        yield "tokens" if has_tokens else "samples"
    if figures.mfu.value is not None:
        yield "mfu"
    if has_power:
        yield "energy"
    if has_power and has_tokens:
        yield "token-energy"
    if _tells_loss(found, figures):
        yield "loss"


def _tells_loss(found: Run, figures: RunFigures) -> bool:
    """Tell whether any of the newest steps has a loss: the others need not be read for that."""
    if not len(figures.steps):
        return False
    last_ms = float(figures.steps.ended_ms[-1])
    reach_ms = max(_LEAST_REACH_MS, _REACH_STEPS * 1000 * (figures.step_times.median or 0.0))
    return not np.isnan(read.steps(found, last_ms - reach_ms, last_ms + 1, columns=("loss",)).loss).all()


def _compared(found: Run, other: Run, window: RunWindow, now: datetime) -> dict[str, Any]:
    """Return both runs side by side, each over the newest part of its own window that can be read at once."""
    shown = comparison.CHARTS
    charts = [
        {
            "id": chart.id,
            "label": chart.label,
            "figure": comparison.compare_figure(chart, found.name, other.name, shows_ticks=chart is shown[-1]),
        }
        for chart in shown
    ]
    own, its = (_figures_of(each, window.key, now) for each in (found, other))
    return {
        "other": other,
        "comparison": list(_differences(own, its)),
        "compare_charts": charts,
        "compare_arrays": f"{reverse('training:run-compare', args=[found.pk])}?range={window.key}&with={other.pk}",
    }


def _other_side(found: Run, other: Run | None, window: RunWindow, now: datetime) -> tuple[str, Iterator[Difference]]:
    """Return the name of the other run, and both side by side. Raises BadRequest where `with` names none."""
    if other is None:
        raise BadRequest("with: expected the number of a run")
    own, its = (_figures_of(each, window.key, now) for each in (found, other))
    return f"run-{other.pk}", _differences(own, its)


def _figures_of(run: Run, key: str, now: datetime) -> RunFigures:
    who = members(run)
    part = run_window.last_part(run_window.of_key(key, run, now), who, _MOST_STEPS_AT_ONCE)
    return run_figures.figures(run, part.start_ms, part.end_ms, who=who)


def _differences(own: RunFigures, its: RunFigures) -> Iterator[Difference]:
    """Yield the tiles of both runs side by side, and the shares of their phases."""
    for mine, other in zip(run_tiles.tiles(own), run_tiles.tiles(its), strict=True):
        if mine.unit == other.unit or mine.value is None or other.value is None:
            unit = mine.unit if mine.value is not None else other.unit
            less = mine.key in {"step", "energy"}
            yield Difference(mine.label, unit, mine.value, other.value, mine.why, other.why, less)
    for name in run_panels.phase_names(own.phases, its.phases):
        why = "this run does not tell the phase"
        yield Difference(
            f"Share of {name}", "ratio", own.phases.shares.get(name), its.phases.shares.get(name), why, why
        )
