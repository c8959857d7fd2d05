"""Accepting batches: each is stored once, as it came, and the newest readings of its host with it. Called by the ingest.

Every function is one short transaction and may be repeated: a batch is accepted once, whatever comes again.
"""

from datetime import UTC, datetime

from django.db import transaction

from fleet.models import Host
from telemetry.models import AcceptedSequences, DirtyRollup, LatestState, StoredBatch
from telemetry.store import latest, samples
from telemetry.store.latest import Accepted
from telemetry.store.read import MINUTE_MS
from telemetry.wire import Batch


@transaction.atomic
def accept(host: Host, batch: Batch, payload: bytes, now: datetime) -> Accepted:
    """Store a verified batch as it came; no effect where it was accepted before."""
    known, _ = AcceptedSequences.objects.select_for_update().get_or_create(
        host=host, epoch=batch.epoch, defaults={"changed_at": now}
    )
    if any(first <= batch.sequence <= last for first, last in known.ranges):
        return Accepted(is_new=False)
    known.ranges = [*known.ranges, [batch.sequence, batch.sequence]]
    known.changed_at = now
    known.save()
    StoredBatch.objects.create(
        host=host, epoch=batch.epoch, sequence=batch.sequence,
        start_ms=batch.times_ms[0], end_ms=batch.times_ms[-1], body=payload,
    )  # fmt: skip
    # From here on the host's row is locked: of two workers with batches of one host, also of a new one, the second waits.
    Host.objects.filter(pk=host.pk).update(heard_at=now)
    row = LatestState.objects.filter(host=host).first()
    before_ms = row.at_ms if row else 0
    if is_newest := latest.is_newest(row, batch, now):
        Host.objects.filter(pk=host.pk).update(last_seen_at=datetime.fromtimestamp(batch.times_ms[-1] / 1000, UTC))
    accepted = latest.update(row, host, batch, now, is_newest=is_newest)
    mark_dirty(host, batch, is_late=before_ms > batch.times_ms[-1])
    return accepted


def mark_dirty(host: Host, batch: Batch, *, is_late: bool) -> None:
    """Have the batch's minutes rolled up (again); where later ones are there, also those that a counter's growth reaches."""
    start_ms, end_ms = batch.times_ms[0], batch.times_ms[-1]
    if is_late:
        end_ms += samples.reach_ms(round(batch.sample_seconds * 1000))
    minutes = range(start_ms // MINUTE_MS, end_ms // MINUTE_MS + 1)
    rows = [DirtyRollup(host=host, step_seconds=60, start_ms=minute * MINUTE_MS) for minute in minutes]
    # The conflicting row is written, not skipped: its lock makes a rollup in progress wait for this chunk.
    DirtyRollup.objects.bulk_create(
        rows, update_conflicts=True, unique_fields=["host", "step_seconds", "start_ms"], update_fields=["start_ms"]
    )
