"""`/healthz` and `/readyz`: for load balancers and supervisors, without login. Called by fleet/urls.py."""

from datetime import datetime

from celery import current_app
from django.contrib.auth.decorators import login_not_required
from django.db import DatabaseError
from django.db.models import Max
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.views.decorators.http import require_safe
from kombu.exceptions import OperationalError

from fleet.models import Host, Origin

BROKER_SECONDS = 2


@require_safe
@login_not_required
def healthz(request: HttpRequest) -> JsonResponse:
    """Say that the process answers; asks nobody else."""
    return JsonResponse({"status": "ok"})


@require_safe
@login_not_required
def readyz(request: HttpRequest) -> JsonResponse:
    """Say whether database and broker are reached, and how old the newest sample is in seconds (null: none yet)."""
    lag_seconds, database = _ingest_lag(timezone.now())
    parts = {"database": database, "broker": _broker()}
    is_ready = all(part == "ok" for part in parts.values())
    answer = {"status": "ok" if is_ready else "failed", **parts, "ingest_lag_seconds": lag_seconds}
    return JsonResponse(answer, status=200 if is_ready else 503)


def _ingest_lag(now: datetime) -> tuple[float | None, str]:
    """Return (lag, "ok") or (None, what failed). The words are few: anybody may read them."""
    try:
        newest = Host.objects.exclude(origin=Origin.IMPORTED).aggregate(newest=Max("last_seen_at"))["newest"]
    except DatabaseError:
        return None, "not reached"
    return (None if newest is None else max(0.0, (now - newest).total_seconds())), "ok"


def _broker() -> str:
    options = {"socket_timeout": BROKER_SECONDS, "socket_connect_timeout": BROKER_SECONDS}
    with current_app.connection_for_write(connect_timeout=BROKER_SECONDS, transport_options=options) as broker:
        try:
            broker.ensure_connection(max_retries=0, timeout=BROKER_SECONDS)
        except (OperationalError, *broker.connection_errors, *broker.channel_errors):
            return "not reached"
    return "ok"
