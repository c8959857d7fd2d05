"""Statistics across the devices of groups, at each resolution from the hosts' own: percentiles are of devices, not of groups."""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
from django.db import transaction

from fleet.turns import Turns
from telemetry.models import DirtyRollup, GroupRollup
from telemetry.store import group_statistics, marks, rolled, statistics
from telemetry.store.marks import Mark
from telemetry.store.statistics import Statistics, Whole

_SETTLED_MS = {60: 15_000, 900: 90_000, 3600: 150_000}
_LATEST_MS = 120_000  # by so much after its end a bucket is made, though some host's is still on its way
_MARKS = 2000
_BUCKETS = 15  # in memory at once, of all hosts
_ROWS = 400  # in one transaction: where each host has a label of its own, a minute has thousands


def roll_up(now_ms: int, deadline: float) -> int:
    """Make the groups' marked buckets that are over; returns how many."""
    turns = Turns[int]("making the buckets of group")
    for step_seconds in rolled.STEPS:
        before_ms = now_ms - 1000 * step_seconds - _SETTLED_MS[step_seconds]
        while time.monotonic() < deadline:
            due = marks.due_of_groups(step_seconds, before_ms, _MARKS, turns.failed)
            ready = _without_awaited(due, step_seconds, now_ms)
            for groups in _parts(ready, step_seconds):
                turns.of_many(groups, partial(_make, step_seconds))
                if time.monotonic() > deadline:
                    break
            if len(due) < _MARKS or not ready:
                break
    return turns.end()


def _without_awaited(due: Sequence[Mark], step_seconds: int, now_ms: int) -> list[Mark]:
    """Leave out young buckets that some host is still to be made of: they would be made again at once."""
    young_ms = now_ms - 1000 * step_seconds - _LATEST_MS
    young = {mark.start_ms for mark in due if mark.start_ms > young_ms}
    rows = DirtyRollup.objects.filter(step_seconds=step_seconds, start_ms__in=young)
    awaited = set(rows.values_list("start_ms", flat=True).distinct()) if young else set()
    return [mark for mark in due if mark.start_ms not in awaited]


def _parts(due: Collection[Mark], step_seconds: int) -> Iterator[dict[int, list[Mark]]]:
    """Yield the marks by group of some buckets that lie in one joined row of the hosts: they are read together."""
    by_period: dict[int, dict[int, list[Mark]]] = {}
    for mark in due:
        period = mark.start_ms // (1000 * rolled.PERIODS[step_seconds])
        by_period.setdefault(period, {}).setdefault(mark.start_ms, []).append(mark)
    for buckets in by_period.values():
        starts = sorted(buckets, reverse=True)
        for at in range(0, len(starts), _BUCKETS):
            groups: dict[int, list[Mark]] = {}
            for mark in (mark for start_ms in starts[at : at + _BUCKETS] for mark in buckets[start_ms]):
                groups.setdefault(mark.owner, []).append(mark)
            yield groups


def _make(step_seconds: int, groups: Mapping[int, list[Mark]]) -> int:
    members, due = group_statistics.of_members(groups), [mark for of_group in groups.values() for mark in of_group]
    starts = np.array(sorted({mark.start_ms for mark in due}), np.int64)
    tables = group_statistics.tables(step_seconds, starts)
    made = group_statistics.of_groups(tables, starts, 1000 * step_seconds, members)
    rows = {
        (group, start_ms): statistics.encode_fresh(one)
        for group, found in made.items() for start_ms, one in _single(found, starts)
    }  # fmt: skip
    return sum(_write(step_seconds, due[at : at + _ROWS], rows) for at in range(0, len(due), _ROWS))


@transaction.atomic
def _write(step_seconds: int, due: Sequence[Mark], rows: Mapping[tuple[int, int], bytes]) -> int:
    """Write those of which the mark still stands; returns how many."""
    taken = marks.take_of_groups([mark.pk for mark in due])
    good = [mark for mark in due if mark.pk in taken]
    _replace(step_seconds, {(mark.owner, mark.start_ms): rows.get((mark.owner, mark.start_ms)) for mark in good})
    return len(good)


def _replace(step_seconds: int, rows: Mapping[tuple[int, int], bytes | None]) -> None:
    """Write what was made; where nothing is left of a bucket, an empty one that hides what a joined row may hold."""
    empty = statistics.encode_fresh(statistics.ordered(np.empty((0, 4), np.int64), np.empty((0, 1), np.int64), 0, 0))
    GroupRollup.objects.bulk_create(
        [
            GroupRollup(group_id=group, step_seconds=step_seconds, start_ms=at, n_buckets=1, body=body or empty)
            for (group, at), body in rows.items()
        ],
        update_conflicts=True,
        unique_fields=["group_id", "step_seconds", "start_ms", "n_buckets"],
        update_fields=["body"],
        batch_size=500,
    )


def _single(found: Statistics, starts: Whole) -> Iterator[tuple[int, Statistics]]:
    for column, start_ms in enumerate(starts.tolist()):
        values = found.values[:, [column]]
        if values.any():
            yield start_ms, found._replace(start_ms=start_ms, values=values)
