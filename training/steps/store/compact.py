"""Compaction: the many small chunks of a run, one a batch, become few of up to 50,000 steps. Called by `training.compact_steps`.

May be stopped at any moment and run twice at once: what is joined and what it was joined of change places in one transaction.
"""

import logging
import time
from collections.abc import Iterator
from datetime import datetime

from django.db import transaction
from django.db.models import Count, Q

from fleet.turns import Turns
from training.models import StepChunk
from training.steps import body, columns
from training.steps.columns import StepColumns
from training.steps.store import write
from training.steps.store.write import MOST_STEPS

logger = logging.getLogger(__name__)

SMALL = MOST_STEPS // 2  # steps: what has fewer is joined with others
MANY = 64  # small ones of a run that goes on: reading each costs a tenth of a millisecond
_AT_ONCE = 2_000


def compact(now: datetime, budget_seconds: float) -> int:
    """Join what is due, for so long; returns how many chunks went into others."""
    deadline, turns = time.monotonic() + budget_seconds, Turns[int]("joining the steps of run")
    for run_id in _due(now):
        with turns.of(run_id):
            while time.monotonic() < deadline and (joined := join(run_id)):
                turns.done += joined
        if time.monotonic() >= deadline:
            break
    return turns.end()


def _due(now: datetime) -> Iterator[int]:
    """Yield runs with many small chunks, and those that are over and have more than one."""
    small = StepChunk.objects.filter(n_steps__lt=SMALL).order_by().values("run").annotate(n=Count("pk"))
    is_due = Q(n__gte=MANY) | Q(n__gt=1, run__ends_at__lt=now)
    yield from small.filter(is_due).order_by("-n").values_list("run", flat=True)


@transaction.atomic
def join(run_id: int) -> int:
    """Join the first small chunks of a run, as many as one may hold; returns how many, 0 where there is nothing to join."""
    pks = _first_small(run_id)
    # Of two that join the same, the second waits for the first, and finds them gone.
    rows = StepChunk.objects.select_for_update().filter(pk__in=pks).order_by("pk")
    parts = {row.pk: part for row in rows if (part := _decoded(row)) is not None}
    if len(parts) < 2:
        return 0
    StepChunk.objects.bulk_create(write.chunks(run_id, columns.joined(list(parts.values()))))
    StepChunk.objects.filter(pk__in=parts).delete()
    return len(parts)


def _first_small(run_id: int) -> list[int]:
    rows = StepChunk.objects.filter(run=run_id, n_steps__lt=SMALL).order_by("first_ms", "pk")
    pks, n_steps = [], 0
    for pk, size in rows.values_list("pk", "n_steps")[:_AT_ONCE]:
        n_steps += size
        if n_steps > MOST_STEPS:
            break
        pks.append(pk)
    return pks


def _decoded(row: StepChunk) -> StepColumns | None:
    try:
        return body.decode(bytes(row.body))
    except body.BodyCorrupt as error:
        logger.error("step chunk %d is corrupt and stays as it is: %s", row.pk, error)  # noqa: TRY400 — its words say all
        return None
