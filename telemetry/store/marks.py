"""Which buckets are to be made (again). Called by the rollups; a batch marks its minutes as it is stored (accept.py).

A mark's id changes whenever the rollups set it again: whoever has made the bucket meanwhile deletes by id, and so only the
mark that he saw.
"""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from telemetry import vendor_sql
from telemetry.models import DirtyGroup, DirtyRollup


class Mark(NamedTuple):
    """`owner` is a host's id, or a group's."""

    pk: int
    owner: int
    start_ms: int


Marked = tuple[int, int, int]  # owner, step_seconds, start_ms


def due_of_hosts(step_seconds: int, before_ms: int, limit: int, without: Collection[int] = ()) -> list[Mark]:
    """Return the newest marks of buckets that begin at or before the time, but for the owners `without`."""
    rows = DirtyRollup.objects.filter(step_seconds=step_seconds, start_ms__lte=before_ms).order_by("-start_ms")
    if without:
        rows = rows.exclude(host__in=without)
    return [Mark(*row) for row in rows.values_list("pk", "host_id", "start_ms")[:limit]]


def due_of_groups(step_seconds: int, before_ms: int, limit: int, without: Collection[int] = ()) -> list[Mark]:
    """Return the same of groups."""
    rows = DirtyGroup.objects.filter(step_seconds=step_seconds, start_ms__lte=before_ms).order_by("-start_ms")
    if without:
        rows = rows.exclude(group__in=without)
    return [Mark(*row) for row in rows.values_list("pk", "group_id", "start_ms")[:limit]]


def take_of_hosts(pks: Collection[int]) -> set[int]:
    """Delete these marks; returns which of them still stood there: another's were made, or set again, since they were seen.

    Inside a transaction. On PostgreSQL it waits for whoever sets one of them again at this moment.
    """
    return _take(DirtyRollup, pks)


def take_of_groups(pks: Collection[int]) -> set[int]:
    """Delete these marks of groups, as take_of_hosts does."""
    return _take(DirtyGroup, pks)


def _take(model: type[DirtyRollup] | type[DirtyGroup], pks: Collection[int]) -> set[int]:
    rows = model.objects.filter(pk__in=pks)
    there = set(rows.order_by("pk").select_for_update().values_list("pk", flat=True))
    rows.filter(pk__in=there).delete()
    return there


def renew_hosts(marks: Iterable[Marked]) -> None:
    """Mark buckets of hosts, under new ids. Inside a transaction: others see either the old mark or the new one."""
    wanted = set(marks)
    vendor_sql.mark_rollups_dirty(wanted)  # locks those that stand there
    for (step, start_ms), owners in _by_time(wanted).items():
        DirtyRollup.objects.filter(step_seconds=step, start_ms=start_ms, host__in=owners).delete()
    vendor_sql.mark_rollups_dirty(wanted)


def renew_groups(marks: Iterable[Marked]) -> None:
    """Mark buckets of groups, as renew_hosts does."""
    wanted = set(marks)
    vendor_sql.mark_groups_dirty(wanted)
    for (step, start_ms), owners in _by_time(wanted).items():
        DirtyGroup.objects.filter(step_seconds=step, start_ms=start_ms, group__in=owners).delete()
    vendor_sql.mark_groups_dirty(wanted)


def _by_time(marks: Iterable[Marked]) -> dict[tuple[int, int], list[int]]:
    found: dict[tuple[int, int], list[int]] = {}
    for owner, step, start_ms in marks:
        found.setdefault((step, start_ms), []).append(owner)
    return found
