"""The reference jobs of a host or a device over a window, as marks of its charts, which pull them by this address."""

from datetime import UTC, datetime

import orjson
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.views.decorators.http import require_safe

from fleet.models import Device, Host
from fleet.pages import timerange
from training.models import ReferenceJob

MOST = 40


@require_safe
def marks(request: HttpRequest) -> HttpResponse:
    """Show from when to when each ran, the newest where there are many; one that runs goes on until now."""
    host = get_object_or_404(Host, name=request.GET.get("host", ""))
    now = timezone.now()
    window = timerange.of_query(request.GET, now)
    start, end = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (window.start_ms, window.end_ms))
    found = ReferenceJob.objects.filter(host=host, started_at__lt=end).filter(Q(ended_at__gt=start) | Q(ended_at=None))
    if "device" in request.GET:
        found = found.filter(device=get_object_or_404(Device, uuid=request.GET["device"], host=host))
    rows = found.order_by("-started_at").values_list("workload", "started_at", "ended_at")[:MOST]
    answer = [
        {"at": _ms(started), "until": _ms(ended or now), "label": workload, "tone": "s1", "charts": None}
        for workload, started, ended in rows
        if started is not None
    ]
    return HttpResponse(orjson.dumps({"marks": answer}), content_type="application/json")


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
