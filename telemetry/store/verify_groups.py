"""Checking the groups' rollups: that each can be read, and is what the rollups of its hosts make. Called by `verify_store`.

Reads only. A bucket that is marked to be made again, of the group or of one of its hosts, is not looked at.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

import numpy as np
from django.conf import settings

from telemetry.models import DirtyGroup, DirtyRollup, GroupRollup, Rollup, RollupGroup
from telemetry.store import group_statistics, rolled
from telemetry.store.group_statistics import Group
from telemetry.store.groups import of_hosts as groups_of_hosts
from telemetry.store.statistics import Whole
from telemetry.store.verify import LOOKS, Checked, Difference, Values, by_bucket, corrupt_rows, words

_BUCKETS = 15  # in memory at once, of all hosts


class _Fleet(NamedTuple):
    """Who is in which group: group names and members by group id."""

    names: Mapping[int, str]
    members: Mapping[int, Group]

    @classmethod
    def now(cls) -> "_Fleet":
        names = {group.pk: str(group) for group in RollupGroup.objects.order_by("pk")}
        return cls(names, group_statistics.of_members(names.keys()))


def check(since_ms: int, until_ms: int, now: datetime) -> Checked:
    """Check the groups' buckets that begin in since ≤ time < until; `now` tells what may have been retired."""
    differences: list[Difference] = []
    for group in RollupGroup.objects.order_by("pk"):
        differences += corrupt_rows(GroupRollup.objects.filter(group=group), str(group), since_ms, until_ms)
    n_buckets = 0
    for step_seconds in rolled.STEPS:
        kept_ms = round(1000 * (now.timestamp() - _kept_seconds(step_seconds)))
        for starts in _starts(step_seconds, max(since_ms, kept_ms), until_ms):
            n_compared, wrong = 0, list[Difference]()
            for _ in range(LOOKS):
                n_compared, wrong = _look(_Fleet.now(), step_seconds, starts)
                if not wrong:
                    break
            n_buckets += n_compared
            differences += wrong
    return Checked(0, n_buckets, differences, [])


def _kept_seconds(step_seconds: int) -> int:
    kept = {
        60: settings.STEPWATT_RETENTION_1M,
        900: settings.STEPWATT_RETENTION_15M,
        3600: settings.STEPWATT_RETENTION_1H,
    }
    return int(kept[step_seconds])


def _starts(step_seconds: int, since_ms: int, until_ms: int) -> Iterator[Whole]:
    """Yield the beginnings of buckets that groups have, or hosts, some of one joined row of the hosts at a time."""
    step_ms, found = 1000 * step_seconds, set[int]()
    for model in (Rollup, GroupRollup):
        rows = model.objects.filter(step_seconds=step_seconds, start_ms__lt=until_ms)
        for start_ms, n in rows.order_by().values_list("start_ms", "n_buckets").distinct().iterator(chunk_size=2000):
            found.update(range(start_ms, start_ms + n * step_ms, step_ms))
    starts = np.array(sorted(at for at in found if since_ms <= at < until_ms), np.int64)
    periods = starts // (1000 * rolled.PERIODS[step_seconds])
    for of_period in np.split(starts, np.flatnonzero(np.diff(periods)) + 1):
        yield from (of_period[at : at + _BUCKETS] for at in range(0, of_period.size, _BUCKETS))


def _look(fleet: _Fleet, step_seconds: int, starts: Whole) -> tuple[int, list[Difference]]:
    step_ms, end_ms = 1000 * step_seconds, int(starts[-1]) + 1000 * step_seconds
    marked = _marked(step_seconds, starts)
    tables = group_statistics.tables(step_seconds, starts)
    expected = group_statistics.of_groups(tables, starts, step_ms, fleet.members)
    made = rolled.of_groups(fleet.names.keys(), step_seconds, int(starts[0]), end_ms)
    marked |= _marked(step_seconds, starts)
    n_compared, wrong = 0, list[Difference]()
    for group, name in fleet.names.items():
        should = by_bucket(expected[group].keys, starts, expected[group].values)
        table = made.get(group)
        stands = {} if table is None else by_bucket(table.keys, table.starts_ms, table.values)
        for at_ms in starts.tolist():
            if (group, at_ms) not in marked:
                n_compared += at_ms in should
                wrong += _differing(name, at_ms, step_seconds, should.get(at_ms, {}), stands.get(at_ms, {}))
    return n_compared, wrong


def _marked(step_seconds: int, starts: Whole) -> set[tuple[int, int]]:
    span = {"step_seconds": step_seconds, "start_ms__gte": starts[0], "start_ms__lte": starts[-1]}
    marked = set(DirtyGroup.objects.filter(**span).values_list("group_id", "start_ms"))
    of_hosts = list(DirtyRollup.objects.filter(**span).values_list("host_id", "start_ms"))
    groups = groups_of_hosts({host for host, _ in of_hosts})
    every = list(RollupGroup.objects.values_list("pk", flat=True)) if of_hosts else []
    # Of what a host that has no devices any more holds, any group may have its part.
    return marked | {(group, at_ms) for host, at_ms in of_hosts for group in groups.get(host) or every}


def _differing(name: str, at_ms: int, step_seconds: int, should: Values, stands: Values) -> list[Difference]:
    """Return the first thing that differs, if any does."""
    for key in sorted(should.keys() | stands.keys()):
        one, other = should.get(key, 0), stands.get(key, 0)
        if one != other:
            return [Difference(name, at_ms, words(key, step_seconds, other, one, is_there=bool(stands)))]
    return []
