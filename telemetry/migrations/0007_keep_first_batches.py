"""The first store's batches become batches of this one: accepted as before, and their minutes to be rolled up anew."""

from django.db import migrations
from django.db.migrations.exceptions import IrreversibleError
from django.utils import timezone

_SLICE = 5000
_MINUTE_MS = 60_000

_BATCHES = """
INSERT INTO telemetry_storedbatch (host_id, start_ms, epoch, sequence, end_ms, body)
SELECT host_id, start_ms, epoch, sequence, end_ms, body FROM telemetry_firstbatch
"""
# Sequences that follow each other are as far from their place in the order: a gap begins the next range.
_RANGES = """
SELECT host_id, epoch, min(sequence), max(sequence)
FROM (
    SELECT host_id, epoch, sequence,
           sequence - row_number() OVER (PARTITION BY host_id, epoch ORDER BY sequence) AS range
    FROM telemetry_firstbatch
) AS numbered
GROUP BY host_id, epoch, range ORDER BY host_id, epoch, min(sequence)
"""
_MINUTES = """
SELECT DISTINCT host_id, start_ms / 60000, end_ms / 60000 FROM telemetry_firstbatch
"""
_BACK = """
INSERT INTO telemetry_firstbatch (host_id, start_ms, epoch, sequence, end_ms, body)
SELECT host_id, start_ms, epoch, sequence, end_ms, body FROM telemetry_storedbatch
"""


def keep_batches(apps, schema_editor):
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(_RANGES)
        ranges = {}
        for host_id, epoch, first, last in cursor.fetchall():
            ranges.setdefault((host_id, epoch), []).append([first, last])
        cursor.execute(_MINUTES)
        minutes = {(host, minute) for host, first, last in cursor.fetchall() for minute in range(first, last + 1)}
        cursor.execute(_BATCHES)
    now = timezone.now()  # as acknowledged: the agents of the first store keep nothing that waits for it
    AcceptedSequences = apps.get_model("telemetry", "AcceptedSequences")
    AcceptedSequences.objects.bulk_create(
        AcceptedSequences(
            host_id=host_id, epoch=epoch, ranges=theirs, newest_sequence=theirs[-1][1], changed_at=now, acknowledged_at=now
        )
        for (host_id, epoch), theirs in ranges.items()
    )
    DirtyRollup = apps.get_model("telemetry", "DirtyRollup")
    DirtyRollup.objects.bulk_create(
        (
            DirtyRollup(host_id=host_id, step_seconds=60, start_ms=minute * _MINUTE_MS)
            for host_id, minute in sorted(minutes)
        ),
        batch_size=_SLICE,
    )


def give_back_batches(apps, schema_editor):
    """What is compacted cannot be batches again: then the way back is a backup."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM telemetry_chunk")
        n_chunks = cursor.fetchone()[0]
        if n_chunks:
            raise IrreversibleError(
                f"{n_chunks} chunks of this store cannot become batches of the first one again; restore a backup"
            )
        cursor.execute(_BACK)
        for table in ("storedbatch", "acceptedsequences", "dirtyrollup"):
            cursor.execute(f"DELETE FROM telemetry_{table}")


class Migration(migrations.Migration):
    dependencies = [("telemetry", "0006_store")]
    operations = [migrations.RunPython(keep_batches, give_back_batches)]
