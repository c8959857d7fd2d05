"""Which samples are stored and cannot be read: noted where they are met, forgotten where they can be read again.

Called by the rollups, the compaction and `verify_store`, which meet them, and by whoever shows figures of their time. What was
made while they could be read is kept (rollups/minutes.py); what was not is made without them, and marked by this.
"""

from collections.abc import Collection, Iterable
from datetime import datetime

from telemetry.models import Chunk, StoredBatch, Unreadable
from telemetry.store.chunks import HOUR_MS

WORDS = "samples cannot be read"  # by which figures of their time are marked
Key = tuple[int, str, int]


def of_chunk(host_id: int, uuid: str, start_ms: int, error: Exception) -> Unreadable:
    """Return what is to be noted of a device's hour."""
    return Unreadable(host_id=host_id, uuid=uuid, start_ms=start_ms, end_ms=start_ms + HOUR_MS, what=f"{error}"[:200])


def of_batch(row: StoredBatch) -> Unreadable:
    """Return what is to be noted of a batch: which devices it has readings of is not known."""
    what = f"batch {row.sequence} of {row.epoch}"
    return Unreadable(host_id=row.host_id, start_ms=row.start_ms, end_ms=row.end_ms + 1, what=what)


def note(found: Iterable[Unreadable], now: datetime) -> None:
    """Note what was met; what is noted already stays as it is."""
    rows = list({key(each): each for each in found}.values())
    for row in rows:
        row.found_at = now
    if rows:
        Unreadable.objects.bulk_create(rows, ignore_conflicts=True)


def key(row: Unreadable) -> Key:
    """Return what names it."""
    return row.host_id, row.uuid, row.start_ms


def touching(hosts: Collection[int] | None, start_ms: int, end_ms: int) -> list[Unreadable]:
    """Return what is noted of the hosts, or of all, of any part of start ≤ time < end, oldest first. One query."""
    rows = Unreadable.objects.filter(start_ms__lt=end_ms, end_ms__gt=start_ms)
    if hosts is not None:
        rows = rows.filter(host__in=hosts)
    return list(rows.order_by("start_ms", "pk"))


def forget_whole(host_id: int, start_ms: int, end_ms: int, met: Iterable[Unreadable]) -> None:
    """Forget the device hours that begin in start ≤ time < end, are there, and were not among those `met`."""
    still = {key(each) for each in met}
    rows = Unreadable.objects.filter(host=host_id, start_ms__gte=start_ms, start_ms__lt=end_ms).exclude(uuid="")
    for row in rows:
        if key(row) not in still and Chunk.objects.filter(device__uuid=row.uuid, start_ms=row.start_ms).exists():
            row.delete()
