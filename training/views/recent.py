"""The panel "Reference jobs" of the fleet and host pages, which pull it by its URL."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from fleet.models import Host, Origin
from fleet.shared_answer import shared
from training.jobs import queries
from training.views import table_files
from training.views.rows import rows

SHOWN = 6


@require_safe
@shared(seconds=2)
def recent(request: HttpRequest) -> HttpResponse:
    """Show the newest jobs, of one host where `?host=` names it."""
    host = request.GET.get("host", "")
    can_run = not host or get_object_or_404(Host, name=host).origin == Origin.REAL
    if request.GET.get("format") == "csv":
        return table_files.jobs("reference-jobs", queries.jobs(host=host))
    found = rows(queries.jobs(host=host)[:SHOWN])
    context = {
        "rows": found,
        "host": host,
        "can_run": can_run,
        "path": request.get_full_path(),
        "runs": any(not row.job.is_final for row in found),
    }
    return render(request, "training/_recent.html", context)
