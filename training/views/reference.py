"""The reference page in its three views: results, launch form, running. POST launches. One view gives page and fragments."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from fleet.access.auth import actor_of, has_role, require_role
from fleet.inventory import clusters
from fleet.models import Host, Role
from training.jobs import ladder_runs, queries
from training.jobs.asked import Asked, read_asked
from training.jobs.forms import LaunchForm, launch_form
from training.jobs.launch import LaunchRefused, Wanted, launch_selected
from training.jobs.selection import NothingSelected
from training.ladder.speedup import BLOCKS
from training.models import JobState, ReferenceJob
from training.views import table_files
from training.views.launched import launched
from training.views.progress import MARKS
from training.views.rows import rows
from training.workloads.catalog import find, read_texts
from training.workloads.params import ParamsInvalid

ROWS_A_PAGE = 50
_PARTS = {
    "settings": "training/_settings_refresh.html",
    "before": "training/_before_refresh.html",
    "hosts": "training/_offered.html",
}


@require_http_methods(["GET", "HEAD", "POST"])
def reference(request: HttpRequest) -> HttpResponseBase:
    now = timezone.now()
    if request.method == "POST":
        return _form(request, now) if request.GET.get("part") in _PARTS else _start(request, now)
    match request.GET.get("view", "results"):
        case "results":
            return _results(request)
        case "launch":
            return _form(request, now)
        case "running":
            return _running(request)
        case "launched":
            return launched(request)
        case other:
            raise Http404(f"The reference page has no view {other!r}.")


def _results(request: HttpRequest) -> HttpResponse:
    workload, state = request.GET.get("workload", ""), request.GET.get("state", "")
    if workload and workload not in {each.name for each in queries.workloads()}:
        raise Http404(f"There is no workload {workload!r}.")
    if state and state not in JobState.values:
        raise Http404(f"There is no job state {state!r}.")
    cluster = clusters.of_query(request.GET)
    found = _in(cluster, queries.jobs(workload=workload))
    found = found.filter(state=state) if state else found
    if request.GET.get("format") == "csv":
        return table_files.jobs("reference-jobs", found)
    page = Paginator(found, ROWS_A_PAGE).get_page(request.GET.get("page"))
    context = {
        "rows": rows(page.object_list),
        "page": page,
        "workloads": queries.workloads(),
        "states": MARKS,
        "workload": workload,
        "state": state,
        "is_filtered": bool(workload or state) or cluster is not None,
    }
    return _page(request, "results", context)


def _running(request: HttpRequest) -> HttpResponse:
    found = _in(clusters.of_query(request.GET), queries.jobs(active=True))
    if request.GET.get("format") == "csv":
        return table_files.jobs("running-jobs", found)
    return _page(request, "running", {"rows": rows(found)})


def _in(cluster: str | None, jobs: QuerySet[ReferenceJob]) -> QuerySet[ReferenceJob]:
    """Return the jobs whose host, or that of rank 0, is in the cluster; all where none is asked for."""
    return jobs if cluster is None else jobs.filter(host__cluster=cluster)


def _page(request: HttpRequest, view: str, context: Mapping[str, Any]) -> HttpResponse:
    context = {**_shared(request, view), **context}
    if request.htmx:  # type: ignore[attr-defined]  # set by django-htmx's middleware
        return render(request, "training/_jobs.html", context)
    return render(request, f"training/{view}.html", {**context, "clusters": clusters.every()})


def _form(request: HttpRequest, now: datetime) -> HttpResponse:
    """Show the form as it is filled in, or the `part` of it that is asked for.

    The page posts what a part follows from: no address has room for the names of a large fleet's hosts.
    """
    errors, data = {}, request.POST if request.method == "POST" else request.GET
    asked = read_asked(data)
    known = set(Host.objects.filter(name__in=asked.names).values_list("name", flat=True))
    if unknown := [name for name in asked.names if name not in known]:
        errors["hosts"] = f"there is no host named {unknown[0]!r}"
    if "workload" in data:
        try:
            find(data["workload"])
        except ParamsInvalid as error:
            errors["workload"] = error.message
    form = launch_form(data, asked, now, errors)
    part = request.GET.get("part", "")
    # What is typed into a part is not finished yet: it is told what is wrong, and is no error.
    return _render_form(request, form, _PARTS.get(part, "training/launch.html"), 400 if errors and not part else 200)


def _start(request: HttpRequest, now: datetime) -> HttpResponseBase:
    return require_role(Role.OPERATOR)(_launch)(request, now)


def _launch(request: HttpRequest, now: datetime) -> HttpResponseBase:
    asked = read_asked(request.POST)
    try:
        workload = find(request.POST.get("workload"))
        texts = {param.name: request.POST.get(param.name, "") for param in workload.params}
        params = read_texts(workload.name, texts)
        wanted = asked.wanted()
        if "ladder" in request.POST:
            return _climb(request, workload.name, _climbers(asked, wanted), params, now)
        reason = request.POST.get("force_reason", "").strip()[:500]
        as_one = asked.per == "distributed"
        jobs = launch_selected(
            workload.name, wanted, params, actor=actor_of(request), force_reason=reason, as_one=as_one
        )
    except ParamsInvalid as error:
        return _refuse(request, asked, now, {error.field: error.message}, 400)
    except NothingSelected as error:
        return _refuse(request, asked, now, {} if asked.errors else {"selection": str(error)}, 400)
    except LaunchRefused as error:
        return _refuse(request, asked, now, {error.field: str(error)}, 409 if error.is_busy else 400, error.at)
    if len(jobs) == 1 or as_one:
        return redirect("training:job", jobs[0].pk)
    return redirect(f"{reverse('training:reference')}?view=launched&launch={jobs[0].launch}")


def _climbers(asked: Asked, wanted: Sequence[Wanted]) -> Mapping[str, str]:
    """Return the device that climbs by its host, "" for the one that the host gets by itself. Raises LaunchRefused."""
    if asked.per == "distributed":
        raise LaunchRefused("per", "a ladder is climbed on one device of a host, not over all of them")
    found: dict[str, str] = {}
    for name, uuid in wanted:
        if found.setdefault(name, uuid) != uuid:
            raise LaunchRefused("per", f"{name} climbs on one device at a time; choose one job on each host")
    if not found:
        raise LaunchRefused("hosts", "choose at least one host")
    return found


def _climb(
    request: HttpRequest, workload: str, climbers: Mapping[str, str], params: Mapping[str, Any], now: datetime
) -> HttpResponseBase:
    """Begin a ladder on each host, or on none where anything is wrong. Raises LaunchRefused."""
    with transaction.atomic():
        runs = [
            ladder_runs.start(workload, name, params, actor=actor_of(request), now=now, device_uuid=uuid)
            for name, uuid in climbers.items()
        ]
    return redirect("training:ladder", runs[0].pk) if len(runs) == 1 else redirect("training:ladders")


def _refuse(
    request: HttpRequest, asked: Asked, now: datetime, errors: dict[str, str], status: int,
    refused: Mapping[str, str] | None = None,
) -> HttpResponse:  # fmt: skip
    """Show the form again as it was sent, with the reason at each host that was refused."""
    form = launch_form(request.POST, asked, now, errors, refused)
    return _render_form(request, form, "training/launch.html", status)


def _render_form(request: HttpRequest, form: LaunchForm, template: str, status: int) -> HttpResponse:
    return render(request, template, {**_shared(request, "launch"), "form": form, "blocks": BLOCKS}, status=status)


def _shared(request: HttpRequest, view: str) -> dict[str, Any]:
    return {
        "view": view,
        "running_count": _in(request.GET.get("cluster"), queries.jobs(active=True)).count(),
        "may_launch": has_role(request, Role.OPERATOR),
        "path": request.get_full_path(),
    }
