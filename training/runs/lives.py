"""What runs that are over did in all their time, worked out once and kept: the efficiency page adds up many of them.

Called by the task `training.measure_runs`. As telemetry of a host may come late, a life is worked out again an hour after the
run's end, and each time it has been over for twice as long, within a week.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime, timedelta
from hashlib import sha256

from django.db.models import F, Q

from fleet.turns import Turns
from telemetry.prices.energy_rates import Rates
from training.models import Run, RunLife
from training.runs.doings import Doings, doings
from training.runs.queries import life_ms

_AT_ONCE = 200
_AGAIN, _UNTIL = timedelta(hours=1), timedelta(days=7)
_FIGURES = tuple(field.name for field in fields(Doings))[:-1]  # all but the trend


def measure(now: datetime, budget_seconds: float) -> int:
    """Work out the lives that are due, the newest first, as many as there is time for; returns how many.

    Raises TurnFailed in the end where one could not be worked out.
    """
    deadline, rates = time.monotonic() + budget_seconds, Rates.in_force()
    turns = Turns[int]("working out the life of run")
    is_over = (Q(ends_at=None) | Q(ends_at__lte=now)) & Q(last_step_at__isnull=False)
    is_old = ~Q(life__last_step_at=F("last_step_at")) | ~Q(life__rates=digest(rates)) | Q(life__due_at__lte=now)
    due = Run.objects.filter(is_over).filter(Q(life=None) | is_old).order_by("-last_step_at")
    for run in list(due[:_AT_ONCE]):  # a query that is still open would keep what is written below from SQLite
        if time.monotonic() >= deadline:
            break
        with turns.of(run.pk):
            _keep(run, now, rates)
            turns.done += 1
    return turns.end()


def kept(start: datetime, end: datetime, rates: Rates) -> Mapping[int, Doings]:
    """Return by run id the lives that have been worked out of runs between these times, without their trends."""
    rows = RunLife.objects.filter(
        rates=digest(rates), last_step_at=F("run__last_step_at"), last_step_at__gt=start, run__started_at__lt=end
    )
    return {pk: Doings(*row) for pk, *row in rows.values_list("pk", *_FIGURES)}


def trends(run_ids: Collection[int]) -> Mapping[int, Sequence[float | None]]:
    """Return by run id the trends that were kept of these runs."""
    return dict(RunLife.objects.filter(pk__in=run_ids).values_list("pk", "trend"))


def _keep(run: Run, now: datetime, rates: Rates) -> None:
    assert run.last_step_at is not None  # noqa: S101 — the query's
    over = now - run.last_step_at
    due_at = run.last_step_at + max(_AGAIN, 2 * over) if over < _UNTIL else None
    found = asdict(doings(run, *life_ms(run, now), rates))
    about = {"last_step_at": run.last_step_at, "rates": digest(rates), "due_at": due_at}
    RunLife.objects.update_or_create(run=run, defaults=about | found)


def digest(rates: Rates) -> str:
    """Return what tells lives at other prices apart."""
    return sha256(repr(rates).encode()).hexdigest()
