"""Retention by age. Imported hosts hold history and are never retired by age; events live as long as the minute rollups."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db.models import Q

from fleet.models import Event, Host, Origin

_SLICE = 500


def retire(now: datetime, budget_seconds: float) -> int:
    """Delete what is older than its retention, in slices; returns the number of rows that went."""
    hosts = list(Host.objects.exclude(origin=Origin.IMPORTED))
    deadline, gone = time.monotonic() + budget_seconds, 0
    for delete, seconds in ((_retire_events, settings.STEPWATT_RETENTION_1M),):
        before_ms = int((now - timedelta(seconds=seconds)).timestamp() * 1000)
        while time.monotonic() < deadline and (deleted := delete(hosts, before_ms, _SLICE)):
            gone += deleted
    return gone


def _retire_events(hosts: Sequence[Host], before_ms: int, limit: int) -> int:
    """Delete up to `limit` events that ended before the time, of these hosts and of those that are no host's."""
    before = datetime.fromtimestamp(before_ms / 1000, UTC)
    old = Event.objects.filter(Q(host__in=hosts) | Q(host=None), last_at__lt=before).order_by("last_at")
    return Event.objects.filter(pk__in=list(old.values_list("pk", flat=True)[:limit])).delete()[0]
