"""Retention by age. Imported hosts hold history and are never retired by age."""

import time
from datetime import datetime, timedelta

from django.conf import settings

from fleet.models import Host, Origin
from telemetry.store import write

_SLICE = 500


def retire(now: datetime, budget_seconds: float) -> int:
    """Delete what is older than its retention, in slices; returns the number of rows that went."""
    hosts = list(Host.objects.exclude(origin=Origin.IMPORTED))
    deadline, gone = time.monotonic() + budget_seconds, 0
    for delete, seconds in (
        (write.retire_chunks, settings.STEPWATT_RETENTION_RAW),
        (write.retire_rollups, settings.STEPWATT_RETENTION_1M),
    ):
        before_ms = int((now - timedelta(seconds=seconds)).timestamp() * 1000)
        while time.monotonic() < deadline and (deleted := delete(hosts, before_ms, _SLICE)):
            gone += deleted
    return gone
