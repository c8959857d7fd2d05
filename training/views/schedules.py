"""The pages of schedules: the list, one to make or change with what it has started, and the buttons to pause and remove."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import OuterRef, Subquery
from django.http import HttpRequest, HttpResponse, HttpResponseBase, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from fleet.access.auth import actor_of, has_role, require_role
from fleet.models import Role
from fleet.web.csv_answer import csv_answer
from training.jobs import schedules
from training.jobs.asked import Asked, read_asked
from training.jobs.cron import CronInvalid, due_at
from training.jobs.forms import launch_form
from training.jobs.schedules import Plan, ScheduleInvalid
from training.models import JobState, Schedule, ScheduledVisit, Trigger
from training.views import table_files
from training.views.progress import MARKS
from training.views.schedule_words import Outcome, next_at, outcome, watches_silence, where
from training.workloads.catalog import find, read_texts
from training.workloads.params import ParamsInvalid

_VISITS_SHOWN = 50
_NEXT_SHOWN = 3
_CSV = ("schedule", "workload", "where", "cron", "after", "is_active", "next_at", "last_outcome", "last_due_at")
_PARTS = {"settings": "training/_settings_refresh.html", "before": "training/_schedule_before.html"}


@dataclass(frozen=True, slots=True)
class Row:
    schedule: Schedule
    where: str
    triggers: list[str]
    next_at: datetime | None
    last: Outcome | None


@require_safe
def every(request: HttpRequest) -> HttpResponse:
    """List the schedules by name, each with when it is next due and what came of it last."""
    now = timezone.now()
    last = _last_visits()
    rows = [
        Row(
            schedule=each,
            where=where(each),
            triggers=[Trigger(name).label for name in each.triggers],
            next_at=next_at(each, now),
            last=outcome(last.get(each.pk, [])),
        )
        for each in Schedule.objects.all()
    ]
    if request.GET.get("format") == "csv":
        return csv_answer("schedules", _CSV, map(_csv_row, rows))
    context = {
        "rows": rows,
        "view": "schedules",
        "may_change": has_role(request, Role.OPERATOR),
        "path": request.get_full_path(),
    }
    return render(request, "training/_schedules.html" if request.htmx else "training/schedules.html", context)  # type: ignore[attr-defined]  # django-htmx


def _csv_row(row: Row) -> tuple[object, ...]:
    counts = ", ".join(f"{words} {n}" for _, words, n in row.last.counts) if row.last else ""
    schedule = row.schedule
    return (
        schedule.name, schedule.workload, row.where, schedule.cron, ", ".join(row.triggers), schedule.is_active, row.next_at,
        counts, row.last.due_at if row.last else None,
    )  # fmt: skip


def _last_visits() -> dict[int, list[ScheduledVisit]]:
    """Return the visits of the newest moment at which each schedule was due, by its id."""
    newest = ScheduledVisit.objects.filter(schedule=OuterRef("schedule")).order_by("-due_at").values("due_at")[:1]
    found: dict[int, list[ScheduledVisit]] = {}
    visits = ScheduledVisit.objects.select_related("job").defer("job__log", "job__result")
    for visit in visits.filter(due_at=Subquery(newest)):
        found.setdefault(visit.schedule_id, []).append(visit)
    return found


@require_http_methods(["GET", "HEAD", "POST"])
def new(request: HttpRequest) -> HttpResponseBase:
    """Show the form of a new schedule, as the query string fills it in; POST keeps it."""
    now = timezone.now()
    if request.method == "POST":
        return require_role(Role.OPERATOR)(_keep)(request, now)
    return _form(request, request.GET, now, None)


@require_http_methods(["GET", "HEAD", "POST"])
def one(request: HttpRequest, schedule_id: int) -> HttpResponseBase:
    """Show a schedule, its form and what it has started; POST changes it."""
    now = timezone.now()
    found = get_object_or_404(Schedule, pk=schedule_id)
    if request.method == "POST":
        return require_role(Role.OPERATOR)(_keep)(request, now, found)
    if request.GET.get("format") == "csv":
        every_visit = found.visits.select_related("host", "job").defer("job__log", "job__result")
        return table_files.visits("schedule", every_visit)
    if request.htmx and "part" not in request.GET:  # type: ignore[attr-defined]  # set by django-htmx's middleware
        return render(request, "training/_visits.html", _visits(found) | {"path": request.get_full_path()})
    return _form(request, request.GET if "part" in request.GET else _as_form(found), now, found)


@require_POST
@require_role(Role.OPERATOR)
def pause(request: HttpRequest, schedule_id: int) -> HttpResponseBase:
    """Pause a schedule, or resume one that is paused, as `do` says."""
    found, now = get_object_or_404(Schedule, pk=schedule_id), timezone.now()
    change = schedules.resume if request.POST.get("do") == "resume" else schedules.pause
    change(found, actor=actor_of(request), now=now)
    return redirect("training:schedule", schedule_id)


@require_POST
@require_role(Role.OPERATOR)
def remove(request: HttpRequest, schedule_id: int) -> HttpResponseBase:
    """Remove a schedule; the jobs that it started stay."""
    schedules.remove(get_object_or_404(Schedule, pk=schedule_id), actor=actor_of(request))
    return redirect("training:schedules")


def _keep(request: HttpRequest, now: datetime, found: Schedule | None = None) -> HttpResponseBase:
    data = request.POST
    asked = _asked(data)
    try:
        workload = find(data.get("workload"))
        params = read_texts(workload.name, {param.name: data.get(param.name, "") for param in workload.params})
        if asked.errors:
            return _form(request, data, now, found, {}, 400)
        plan = Plan(
            data.get("name", ""), workload.name, asked.selection, data.get("cron", ""), data.getlist("trigger"), params,
            asked.per == "distributed",
        )  # fmt: skip
        if found is None:
            found = schedules.keep(plan, actor=actor_of(request), now=now)
        else:
            schedules.change(found, plan, actor=actor_of(request), now=now)
    except ParamsInvalid as error:
        return _form(request, data, now, found, {error.field: error.message}, 400)
    except ScheduleInvalid as error:
        return _form(request, data, now, found, {error.field: str(error)}, 400)
    return redirect("training:schedule", found.pk)


def _form(
    request: HttpRequest, data: QueryDict, now: datetime, found: Schedule | None, errors: Mapping[str, str] | None = None,
    status: int = 200,
) -> HttpResponse:  # fmt: skip
    asked = _asked(data)
    if request.method != "POST" and asked.selection.is_empty:  # nothing is chosen yet, which is no mistake so far
        asked.errors.pop("selection", None)
    cron = data.get("cron", "").strip()
    context: dict[str, Any] = {
        "schedule": found,
        "form": launch_form(data, asked, now, errors or {}, waits=True),
        "name": data.get("name", ""),
        "cron": cron,
        "triggers": [(each, each in data.getlist("trigger")) for each in Trigger],
        "watches_silence": watches_silence(),
        "moments": _moments(cron, now),
        "view": "schedules",
        "may_change": has_role(request, Role.OPERATOR),
        "path": request.get_full_path(),
        **(_visits(found) if found is not None else {}),
    }
    return render(request, _PARTS.get(data.get("part", ""), "training/schedule.html"), context, status=status)


def _asked(data: QueryDict) -> Asked:
    filled = data.copy()
    filled["by"] = "selection"
    return read_asked(filled)


def _as_form(found: Schedule) -> QueryDict:
    """Return the schedule as its form would send it."""
    said = QueryDict(mutable=True)
    chosen = found.selection
    labels = ", ".join(f"{name}={value}" for name, value in chosen.get("labels", {}).items())
    said.update({"name": found.name, "workload": found.workload, "cron": found.cron, "labels": labels})
    said.update({name: str(value) for name, value in found.params.items()})
    said.update({name: chosen.get(name, "") for name in ("cluster", "model", "per")})
    said["n_devices"] = str(chosen.get("n_devices") or "")
    if found.as_one:
        said["per"] = "distributed"
        if chosen.get("per") == "host":  # as only the API can say it
            said["n_devices"] = "1"
    said.setlist("trigger", found.triggers)
    return said


def _moments(cron: str, now: datetime) -> list[datetime] | str:
    """Return the next moments of the expression, or why it names none."""
    found: list[datetime] = []
    try:
        for _ in range(_NEXT_SHOWN if cron else 0):
            found.append(due_at(cron, found[-1] if found else now))
    except CronInvalid as error:
        return str(error)
    return found


def _visits(found: Schedule) -> dict[str, Any]:
    visits = found.visits.select_related("host", "job").defer("job__log", "job__result")
    return {
        "visits": [(visit, MARKS[JobState(visit.job.state)] if visit.job else "") for visit in visits[:_VISITS_SHOWN]]
    }
