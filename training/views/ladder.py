"""The page of a ladder, the list of all of them, and the button that cancels one."""

from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from fleet.access.auth import actor_of, has_role, require_role
from fleet.inventory import clusters
from fleet.models import Role
from training.jobs import ladder_figures, ladder_runs
from training.models import LadderRun, LadderState
from training.views import table_files

MARKS: dict[LadderState, str] = {
    LadderState.RUNNING: "run",
    LadderState.DONE: "ok",
    LadderState.FAILED: "crit",
    LadderState.CANCELLED: "stale",
}
_SHOWN = 100


@require_safe
def ladders(request: HttpRequest) -> HttpResponse:
    """List the ladders, newest first."""
    every, there = LadderRun.objects.select_related("host", "device"), clusters.every()
    cluster = clusters.of_query(request.GET, there)
    every = every if cluster is None else every.filter(host__cluster=cluster)
    if request.GET.get("format") == "csv":
        return table_files.ladders(every)
    found = every[:_SHOWN]
    rows = [(run, MARKS[LadderState(run.state)]) for run in found]
    context = {"rows": rows, "view": "ladders", "path": request.get_full_path(), "clusters": there}
    return render(request, "training/ladders.html", context)


@require_safe
def ladder(request: HttpRequest, ladder_id: int) -> HttpResponse:
    """Show a ladder; htmx gets the part that changes."""
    run = get_object_or_404(LadderRun.objects.select_related("host", "device"), pk=ladder_id)
    rungs = ladder_runs.result(run)
    if request.GET.get("format") == "csv":
        return table_files.rungs(run, rungs)
    n_ended = len(ladder_runs.processes(run))
    context = {
        "run": run,
        "rungs": rungs,
        "mark": MARKS[LadderState(run.state)],
        "n_ended": n_ended,
        "n_processes": ladder_runs.n_processes(run),
        "may_cancel": has_role(request, Role.OPERATOR) and not run.is_final,
        "path": request.get_full_path(),
    }
    if request.htmx:  # type: ignore[attr-defined]  # set by django-htmx's middleware
        return render(request, "training/_ladder.html", context)
    return render(request, "training/ladder.html", context | {"figure": ladder_figures.chart()})


@require_safe
def arrays(request: HttpRequest, ladder_id: int) -> HttpResponse:
    """Return the chart's arrays, in the order of the figure's traces, as far as the rungs have ended."""
    run = get_object_or_404(LadderRun.objects.select_related("host", "device"), pk=ladder_id)
    return JsonResponse(ladder_figures.arrays(ladder_runs.result(run)))


@require_POST
@require_role(Role.OPERATOR)
def cancel(request: HttpRequest, ladder_id: int) -> HttpResponseBase:
    """End a ladder; one that has ended stays as it is."""
    run = get_object_or_404(LadderRun.objects.select_related("host"), pk=ladder_id)
    ladder_runs.cancel(run, actor=actor_of(request), now=timezone.now())
    return redirect("training:ladder", ladder_id)
