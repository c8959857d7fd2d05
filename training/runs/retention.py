"""Retention of runs: one goes, with its steps, so long after its last step. In slices that may be killed. Called by beat.

What was imported is history and stays.
"""

import time
from datetime import datetime, timedelta

from django.conf import settings

from fleet import slices
from fleet.models import Origin
from training.models import Run, StepChunk

_AT_ONCE = 1000


def retire(now: datetime, budget_seconds: float) -> int:
    """Delete what is due, for so long; returns how many runs went."""
    deadline, n_gone = time.monotonic() + budget_seconds, 0
    before = now - timedelta(seconds=settings.STEPWATT_RETENTION_RUNS)
    due = Run.objects.filter(last_step_at__lt=before).exclude(host__origin=Origin.IMPORTED).order_by("last_step_at")
    # As a list: a query that is still open would keep what is written below from SQLite.
    for run in list(due.only("pk")[:_AT_ONCE]):
        while time.monotonic() < deadline and delete_some(run):
            pass
        if time.monotonic() >= deadline:
            break
        n_gone += bool(Run.objects.filter(pk=run.pk, last_step_at__lt=before).delete()[0])
    return n_gone


def delete_some(run: Run) -> int:
    """Delete a slice of the run's steps; returns how many chunks of them went."""
    return slices.delete_some(StepChunk.objects.filter(run=run))
