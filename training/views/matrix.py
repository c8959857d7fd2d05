"""Results side by side: the matrix of hosts × workloads as a fragment and as CSV, and the trend of a host."""

from functools import partial

from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from fleet.inventory import clusters
from fleet.models import Host
from fleet.web.csv_answer import asked_table, csv_answer
from training.judging import figures, results
from training.judging import matrix as matrices
from training.judging.results import Trend
from training.workloads.catalog import WORKLOADS

HOSTS_A_PAGE = 50


@require_safe
def matrix(request: HttpRequest) -> HttpResponse:
    """Show the matrix, which the results page pulls."""
    mode, cluster = _mode(request), clusters.of_query(request.GET)
    page = Paginator(matrices.hosts_of(cluster), HOSTS_A_PAGE).get_page(request.GET.get("page"))
    context = {
        "matrix": matrices.matrix(list(page), mode, cluster, is_together=page.number == 1),
        "page": page,
        "mode": mode,
        "modes": {"all": "Newest", "eager": "Eager", "compile": "Compiled"},
    }
    return render(request, "training/_matrix.html", context)


@require_safe
def matrix_csv(request: HttpRequest) -> HttpResponse:
    """Return the matrix as a file, one row a host, or set of hosts of distributed jobs, and workload."""
    cluster = clusters.of_query(request.GET)
    found = matrices.matrix(list(matrices.hosts_of(cluster)), _mode(request), cluster)
    return csv_answer("reference-results", matrices.CSV_COLUMNS, matrices.csv_rows(found))


@require_safe
def trend(request: HttpRequest, name: str) -> HttpResponse:
    """Show how a host's devices did in one workload over time."""
    host = get_object_or_404(Host, name=name)
    workload = request.GET.get("workload", next(iter(WORKLOADS)))
    if workload not in WORKLOADS:
        raise Http404(f"There is no workload {workload!r}.")
    trends = results.trends(host, workload)
    files = {each.device.uuid: partial(_trend_file, each) for each in trends}
    if (file := asked_table(request.GET, files)) is not None:
        return file
    context = {
        "host": host,
        "workload": workload,
        "workloads": list(WORKLOADS),
        "trends": [(each, figures.trend(each)) for each in trends],
    }
    return render(request, "training/trend.html", context)


def _trend_file(found: Trend) -> HttpResponse:
    head = ("ended_at", "job", found.metric.name, "unit", "outcome", "is_clean")
    rows = (
        (verdict.ended_at, verdict.job_id, value, found.metric.unit, verdict.outcome, verdict.is_clean)
        for verdict, value in zip(found.verdicts, found.values, strict=True)
    )
    return csv_answer(f"{found.workload}-trend", head, rows)


def _mode(request: HttpRequest) -> str:
    mode = request.GET.get("mode", "all")
    if mode not in results.MODES:
        raise Http404(f"The results have no mode {mode!r}.")
    return mode
