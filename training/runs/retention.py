"""Retention of runs: one goes, with its steps, so long after its last step. In slices that may be killed. Called by beat.

What was imported is history and stays.
"""

import time
from datetime import datetime, timedelta

from django.conf import settings

from fleet.models import Origin
from training.models import Run, StepChunk

_SLICE = 40  # chunks are up to a megabyte
_AT_ONCE = 1000


def retire(now: datetime, budget_seconds: float) -> int:
    """Delete what is due, for so long; returns how many runs went."""
    deadline, n_gone = time.monotonic() + budget_seconds, 0
    before = now - timedelta(seconds=settings.STEPWATT_RETENTION_RUNS)
    due = Run.objects.filter(last_step_at__lt=before).exclude(host__origin=Origin.IMPORTED).order_by("last_step_at")
    # As a list: a query that is still open would keep what is written below from SQLite.
    for run in list(due.only("pk")[:_AT_ONCE]):
        while time.monotonic() < deadline and _delete_some(run):
            pass
        if time.monotonic() >= deadline:
            break
        n_gone += bool(Run.objects.filter(pk=run.pk, last_step_at__lt=before).delete()[0])
    return n_gone


def _delete_some(run: Run) -> bool:
    pks = list(StepChunk.objects.filter(run=run).order_by("pk").values_list("pk", flat=True)[:_SLICE])
    return bool(StepChunk.objects.filter(pk__in=pks).delete()[0])
