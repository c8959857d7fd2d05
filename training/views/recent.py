"""The panel "Reference jobs" of the fleet and host pages, which pull it by its URL: the newest, each beside its baseline."""

from collections.abc import Iterable

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from fleet.models import Host, Origin
from fleet.web.shared_answer import shared
from training.jobs import queries
from training.judging import cells
from training.judging.cells import Cell
from training.models import ReferenceJob
from training.views import table_files
from training.views.rows import rows

SHOWN = 6
_LONG = ("losses", "agreement_detail", "confirmation", "cause")  # of verdicts: not for a table


@require_safe
def recent(request: HttpRequest) -> HttpResponse:
    """Show the newest jobs, of one host or cluster where `?host=` or `?cluster=` names it."""
    if request.GET.get("format") != "csv":
        return _panel(request)
    return table_files.jobs("reference-jobs", _jobs(request, _host(request)))


@shared(seconds=2)
def _panel(request: HttpRequest) -> HttpResponse:
    host = _host(request)
    jobs = _jobs(request, host).select_related("verdict")
    found = rows(jobs.defer(*(f"verdict__{name}" for name in _LONG))[:SHOWN])
    context = {
        "rows": found,
        "cells": _cells(row.job for row in found),
        "host": host.name if host else "",
        "can_run": host is None or host.origin != Origin.IMPORTED,
        "path": request.get_full_path(),
        "runs": any(not row.job.is_final for row in found),
    }
    return render(request, "training/_recent.html", context)


def _jobs(request: HttpRequest, host: Host | None) -> QuerySet[ReferenceJob]:
    found, cluster = queries.jobs(host=host.name if host else ""), request.GET.get("cluster")
    return found if cluster is None else found.filter(host__cluster=cluster)


def _cells(jobs: Iterable[ReferenceJob]) -> dict[int, Cell]:
    """Return how jobs that are judged stand to their baseline, by job id."""
    return {job.pk: cells.of_verdict(job.verdict) for job in jobs if hasattr(job, "verdict")}


def _host(request: HttpRequest) -> Host | None:
    name = request.GET.get("host", "")
    return get_object_or_404(Host, name=name) if name else None
