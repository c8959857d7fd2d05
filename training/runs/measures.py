"""The newest MFU of the runs that are running, kept for what is scraped often. Called by the task `training.measure_runs`."""

import time
from datetime import datetime

from fleet.turns import Turns
from training.models import Run, RunRank
from training.runs.figures import utilisation

_LEAST_MS, _MOST_MS = 60_000, 3_600_000
_STEPS = 20  # that the window holds, where they are long


def measure(now: datetime, budget_seconds: float) -> int:
    """Note the MFU of each running run, as many as there is time for; returns how many."""
    deadline, turns = time.monotonic() + budget_seconds, Turns[int]("measuring run")
    for run in Run.objects.filter(ends_at__gt=now, last_step_at__isnull=False).order_by("last_step_at"):
        with turns.of(run.pk):
            start_ms, end_ms = _window(run)
            found = utilisation(run, start_ms, end_ms).ratio if start_ms < end_ms else None
            if found != run.mfu_ratio:
                Run.objects.filter(pk=run.pk).update(mfu_ratio=found)
            turns.done += 1
        if time.monotonic() >= deadline:
            break
    return turns.end()


def _window(run: Run) -> tuple[int, int]:
    """Return the newest minute up to the last step, or as long as some of its steps take, within the run's life."""
    assert run.last_step_at is not None  # noqa: S101 — the query's
    end_ms = int(run.last_step_at.timestamp() * 1000)
    slowest = RunRank.objects.filter(run=run, n_steps__gt=0).order_by("-last_ms").first()
    step_ms = 1000 * slowest.seconds / slowest.n_steps if slowest else 0.0
    length_ms = min(_MOST_MS, max(_LEAST_MS, int(_STEPS * step_ms)))
    return max(int(run.started_at.timestamp() * 1000), end_ms - length_ms), end_ms
