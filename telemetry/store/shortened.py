"""From when on samples are whole, where the disk limit let some go before their time. Called by the limit and the rollups."""

from telemetry.models import Shortened
from telemetry.store import partitions
from telemetry.store.partitions import Partitioned

_SAMPLES = (partitions.CHUNKS.table, partitions.BATCHES.table)


def note(partitioned: Partitioned, before_ms: int) -> None:
    """Note, before they go, that rows of a table go up to this time."""
    row, is_new = Shortened.objects.get_or_create(table=partitioned.table, defaults={"before_ms": before_ms})
    if not is_new:
        Shortened.objects.filter(pk=row.pk, before_ms__lt=before_ms).update(before_ms=before_ms)


def samples_before_ms() -> int:
    """Return before when samples may be gone; 0 where all are there that retention by age leaves."""
    rows = Shortened.objects.filter(table__in=_SAMPLES)
    return max(rows.values_list("before_ms", flat=True), default=0)
