"""What was slow in a run and why: the panels that its page asks for after the rest, as telemetry is looked through for them."""

from datetime import datetime
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from training.models import Run
from training.runs import why_slow
from training.runs.members import members
from training.steps.store import read
from training.views import run_panels, run_ranks, run_window, table_files
from training.views.kept import kept
from training.views.run_data import found_run
from training.views.run_window import RunWindow

_SHOWN_STRAGGLERS, _SHOWN_SLOW = 3, 6
_WHY_COLUMNS = ("seconds", "compute_seconds", "number", "attempt", "kind", "is_warmup", "phases")


@require_safe
def why(request: HttpRequest, run_id: int) -> HttpResponse:
    """Show who keeps the others waiting and which steps were slow, with what telemetry saw of it."""
    found, now = found_run(run_id), timezone.now()
    window = run_window.of_query(request.GET, found, now)
    if request.GET.get("format") == "csv":
        return table_files.slow_steps(f"run-{run_id}-slow-steps", _why(found, window, now)["slow"].rows)
    body = kept(
        found,
        now,
        request.get_full_path(),
        lambda: render_to_string("training/_run_why.html", _why(found, window, now)),
    )
    return HttpResponse(body)


def _why(found: Run, window: RunWindow, now: datetime) -> dict[str, Any]:
    who = members(found)
    window = run_window.readable(window, who)
    steps = read.steps(found, window.start_ms, window.end_ms, columns=_WHY_COLUMNS)
    held_up = why_slow.run_stragglers(found, who, run_ranks.newest(steps), now, limit=_SHOWN_STRAGGLERS)
    slow = why_slow.run_slow_steps(found, who, steps, now, limit=_SHOWN_SLOW)
    judged = held_up.judgement
    return {
        "run": found,
        "window": window,
        "path": f"{reverse('training:run-why', args=[found.pk])}?range={window.key}",
        "is_running": found.is_running(now),
        "ranks": run_ranks.panel(run_ranks.rows(steps, who, judged), judged, run_ranks.verdicts(held_up.found)),
        "slow": run_panels.slow_rows(slow),
    }
