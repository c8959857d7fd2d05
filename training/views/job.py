"""The live page of one reference job: progress, figures, step times, log, cancel. One view gives the page and its refresh."""

from datetime import datetime, timedelta

from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from fleet import units
from fleet.access.auth import actor_of, has_role, require_role
from fleet.models import Role
from fleet.web.attachment import attachment
from fleet.web.csv_answer import asked_table
from telemetry.charts.figures import Reference
from training.jobs import figures, launch, queries
from training.judging import baseline
from training.models import JobState, ReferenceJob, Verdict
from training.views import measured, table_files
from training.views.log import tail
from training.views.progress import progress
from training.views.rank_rows import rank_rows
from training.views.repeats import repeats
from training.views.verdict import loss_columns, losses
from training.workloads.catalog import WORKLOADS

LOST_PATIENCE = timedelta(minutes=10)
COMPARE_PATIENCE = timedelta(minutes=1)  # beat has each job judged within seconds


@require_safe
def job(request: HttpRequest, job_id: int) -> HttpResponse:
    """Show the job; htmx gets the parts that change. `?confirm=cancel` asks before it cancels."""
    now = timezone.now()
    found = _job(job_id)
    files = {
        "ranks": lambda: table_files.ranks(found, rank_rows(found)),
        "repeats": lambda: table_files.repeats(found, repeats(found, queries.steps(found))),
        "losses": lambda: table_files.curves(
            f"job-{job_id}-losses", ("step", "loss", "peers_median"), loss_columns(found)
        ),
    }
    if (file := asked_table(request.GET, files)) is not None:
        return file
    is_over = found.is_final and not _may_turn_out_otherwise(found, now)
    is_compared = found.state != JobState.DONE or found.rank > 0 or bool(_compared(found, now))
    steps, expected = queries.steps(found), baseline.expected(found)
    context = {
        "job": found,
        "progress": progress(found, steps, _compared(found, now)),
        "figures": measured.figures(found, steps, now, expected),
        "sample_unit": measured.sample_unit(found),
        "samples_rate": f"{measured.sample_unit(found)}/s",
        "samples_per_joule_unit": f"{measured.sample_unit(found)}/J",
        "ranks": rank_rows(found),
        "repeats": repeats(found, steps),
        "where": _where(found),
        "settings": _settings(found),
        "seconds_taken": _seconds_taken(found),
        "why_no_energy": measured.why_no_energy(found),
        "tail": tail(found.log),
        "may_cancel": has_role(request, Role.OPERATOR),
        "asks_to_cancel": request.GET.get("confirm") == "cancel" and not found.is_final,
        "path": request.get_full_path(),
        "is_over": is_over,
        "polls": not is_over or _energy_is_due(found) or not is_compared,
    }
    if request.htmx:  # type: ignore[attr-defined]  # set by django-htmx's middleware
        return render(request, "training/_job_refresh.html", context)
    context |= {"figure": figures.step_times(_line(expected)), "losses": losses(found)}
    return render(request, "training/job.html", context)


def _line(expected: tuple[float, int] | None) -> Reference | None:
    """Return the line to run against: the median step of the device's earlier runs of the kind."""
    if expected is None:
        return None
    return Reference(expected[0], f"baseline {units.quantity(expected[0], 'seconds')}, n {expected[1]}")


@require_safe
def steps(request: HttpRequest, job_id: int) -> HttpResponse:
    """Return the chart's arrays, in the order of the figure's traces; or its steps as CSV."""
    found = _job(job_id)
    columns = queries.steps(found)
    if request.GET.get("format") == "csv":
        told = (columns.number, columns.ended_ms, columns.seconds, columns.loss, columns.is_warmup)
        return table_files.curves(f"job-{job_id}-steps", ("step", "time_ms", "seconds", "loss", "is_warmup"), told)
    return JsonResponse(figures.step_arrays(found, columns, progress(found, columns).seconds_left))


@require_safe
def log(request: HttpRequest, job_id: int) -> HttpResponse:
    """Return the whole log that the host has kept, as a file."""
    found = _job(job_id)
    name = f"{found.workload}-{found.host.name}-{found.pk}.log"
    return HttpResponse(found.log, content_type="text/plain; charset=utf-8", headers=attachment(name))


@require_POST
@require_role(Role.OPERATOR)
def cancel(request: HttpRequest, job_id: int) -> HttpResponseBase:
    """Ask the host to end the job; a job that has ended stays as it is."""
    launch.cancel(_job(job_id), actor=actor_of(request), now=timezone.now())
    return redirect("training:job", job_id)


def _where(found: ReferenceJob) -> str:
    """Return what the page's name says of where it runs."""
    if found.team is None:
        return found.host.name
    return found.place if found.rank else f"{found.team.world_size} ranks"


def _job(job_id: int) -> ReferenceJob:
    return get_object_or_404(ReferenceJob.objects.select_related("host", "device", "verdict", "team"), pk=job_id)


def _compared(found: ReferenceJob, now: datetime) -> str:
    """Return what came of the comparison with earlier runs, "" while it is to come."""
    if found.state != JobState.DONE:
        return ""
    verdict: Verdict | None = getattr(found, "verdict", None)
    if verdict is not None:
        return verdict.get_outcome_display()
    if found.forced:
        return "none, it was forced"
    return "" if found.ended_at is not None and now - found.ended_at < COMPARE_PATIENCE else "none"


def _settings(found: ReferenceJob) -> list[tuple[str, object]]:
    """Return (label, value) of each parameter; a workload that has left the catalogue shows their names."""
    workload = WORKLOADS.get(found.workload)
    labels = {param.name: param.label for param in workload.params} if workload else {}
    shown = {"batch_size": {0: "by the device"}}
    return [
        (labels.get(name, name), shown.get(name, {}).get(value, _grouped(value)))
        for name, value in found.params.items()
    ]


def _grouped(value: object) -> object:
    return f"{value:,}" if isinstance(value, int) else value


def _seconds_taken(found: ReferenceJob) -> float | None:
    if found.started_at is None or found.ended_at is None:
        return None
    return (found.ended_at - found.started_at).total_seconds()


def _energy_is_due(found: ReferenceJob) -> bool:
    return found.state == JobState.DONE and not found.energy


def _may_turn_out_otherwise(found: ReferenceJob, now: datetime) -> bool:
    """A lost job's host may speak again and say how the job ended."""
    return found.state == JobState.LOST and found.ended_at is not None and now - found.ended_at < LOST_PATIENCE
