"""Compaction: the batches of hours that are over become chunks, the oldest first. Called by the task `telemetry.compact`.

May be stopped at any moment and run twice at once (host_hour.py).
"""

import logging
import time
from collections.abc import Iterator
from datetime import datetime, timedelta

from django.db.models import OuterRef, QuerySet, Subquery

from fleet.models import Host, Origin
from fleet.turns import Turns
from telemetry.models import MaintenanceRun, StoredBatch
from telemetry.store import host_hour
from telemetry.store.chunks import HOUR_MS
from telemetry.store.host_hour import Done

logger = logging.getLogger(__name__)

CLOSED_AFTER = timedelta(minutes=10)  # what an agent sends after that, its spool had kept: it joins the chunk later
RUN = "compaction"


def compact(now: datetime, budget_seconds: float) -> Done:
    """Compact what is due, for so long; an hour that was begun is finished. Returns what was done, and notes it."""
    began, done, turns = time.monotonic(), Done(), Turns[str]("compacting")
    for host, start_ms in _due(now):
        with turns.of(f"{host.name} at {start_ms}"):
            done.add(host_hour.compact(host, start_ms))
        if time.monotonic() - began > budget_seconds:
            break
    _note(now, time.monotonic() - began, done, turns.failure)
    turns.end()
    return done


def _due(now: datetime) -> Iterator[tuple[Host, int]]:
    """Yield (host, the hour's beginning), the host with the oldest batch first."""
    closed_ms = int((now - CLOSED_AFTER).timestamp() * 1000) // HOUR_MS * HOUR_MS
    oldest = StoredBatch.objects.filter(host=OuterRef("pk")).order_by("start_ms").values("start_ms")[:1]
    hosts = Host.objects.annotate(oldest_ms=Subquery(oldest)).exclude(oldest_ms=None).order_by("oldest_ms")
    for host in hosts:
        batches = StoredBatch.objects.filter(host=host)
        if host.origin != Origin.IMPORTED:
            batches = batches.filter(start_ms__lt=closed_ms)
        start_ms = _hour_of_oldest(batches)
        while start_ms is not None:
            yield host, start_ms
            # What came for an earlier hour meanwhile, and what could not be compacted, is the next run's.
            start_ms = _hour_of_oldest(batches.filter(start_ms__gte=start_ms + HOUR_MS))


def _hour_of_oldest(batches: QuerySet[StoredBatch]) -> int | None:
    oldest: int | None = batches.order_by("start_ms").values_list("start_ms", flat=True).first()
    return None if oldest is None else oldest // HOUR_MS * HOUR_MS


def _note(now: datetime, seconds: float, done: Done, failure: str) -> None:
    note = f"{done.n_batches} batches became {done.n_chunks} chunks"
    if done.n_aside:
        note += f"; {done.n_aside} of them were set aside too"
    if done.corrupt:
        note += f"; {len(done.corrupt)} hours wait, their chunks are corrupt: {', '.join(done.corrupt)}"
    if failure:
        note += f"; failed: {failure}"
    if done.n_batches or done.corrupt:
        logger.info("compaction: %s", note)
    fields = {"started_at": now, "seconds": seconds, "done": done.n_batches, "note": note[:500]}
    MaintenanceRun.objects.update_or_create(name=RUN, defaults=fields)
