"""Statistics across the devices of groups, at each resolution from the hosts' own: percentiles are of devices, not of groups."""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from django.db import transaction

from telemetry import catalog
from telemetry.models import DirtyRollup, GroupRollup
from telemetry.store import groups, marks, rolled, statistics
from telemetry.store.marks import Mark
from telemetry.store.samples import Floats
from telemetry.store.statistics import ENERGY, Field, Statistics, Whole

NUMBERS = tuple(metric.number for metric in catalog.METRICS if metric.across)
_SETTLED_MS = {60: 15_000, 900: 90_000, 3600: 150_000}
_LATEST_MS = 120_000  # by so much after its end a bucket is made, though some host's is still on its way
_MARKS = 2000
_BUCKETS = 15  # in memory at once, of all hosts
_HOSTS = 250  # in one query
_ENERGY_FIELDS = (Field.MEASURED_MILLIJOULES, Field.ESTIMATED_MILLIJOULES, Field.COVERED_MILLISECONDS)
_SHARES = {Field.P10: 0.1, Field.P50: 0.5, Field.P90: 0.9}


class Devices(NamedTuple):
    """One metric of devices over buckets: `ids (d,)`, the others `(d, n)`; `means` NaN where a device gave nothing."""

    ids: Whole
    means: Floats  # in steps of the metric's resolution
    minima: Whole
    maxima: Whole


def roll_up(now_ms: int, deadline: float) -> int:
    """Make the groups' marked buckets that are over; returns how many."""
    done = 0
    for step_seconds in rolled.STEPS:
        before_ms = now_ms - 1000 * step_seconds - _SETTLED_MS[step_seconds]
        while time.monotonic() < deadline:
            due = marks.due_of_groups(step_seconds, before_ms, _MARKS)
            ready = _without_awaited(due, step_seconds, now_ms)
            for of_span in _spans(ready, step_seconds):
                done += _make(step_seconds, of_span)
                if time.monotonic() > deadline:
                    return done
            if len(due) < _MARKS or not ready:
                break
    return done


def _without_awaited(due: Sequence[Mark], step_seconds: int, now_ms: int) -> list[Mark]:
    """Leave out young buckets that some host is still to be made of: they would be made again at once."""
    young_ms = now_ms - 1000 * step_seconds - _LATEST_MS
    young = {mark.start_ms for mark in due if mark.start_ms > young_ms}
    rows = DirtyRollup.objects.filter(step_seconds=step_seconds, start_ms__in=young)
    awaited = set(rows.values_list("start_ms", flat=True).distinct()) if young else set()
    return [mark for mark in due if mark.start_ms not in awaited]


def _spans(due: Collection[Mark], step_seconds: int) -> Iterator[list[Mark]]:
    """Yield the marks of some buckets that lie in one joined row of the hosts: they are read together."""
    by_period: dict[int, dict[int, list[Mark]]] = {}
    for mark in due:
        period = mark.start_ms // (1000 * rolled.PERIODS[step_seconds])
        by_period.setdefault(period, {}).setdefault(mark.start_ms, []).append(mark)
    for buckets in by_period.values():
        starts = sorted(buckets, reverse=True)
        for at in range(0, len(starts), _BUCKETS):
            yield [mark for start_ms in starts[at : at + _BUCKETS] for mark in buckets[start_ms]]


def _make(step_seconds: int, due: Sequence[Mark]) -> int:
    members = groups.members({mark.owner for mark in due})
    starts = np.array(sorted({mark.start_ms for mark in due}), np.int64)
    hosts = {host for of_group in members.values() for host in of_group}
    tables = _tables(hosts, step_seconds, starts)
    by_group: dict[int, list[Mark]] = {}
    for mark in due:
        by_group.setdefault(mark.owner, []).append(mark)
    devices = {group: np.array([pk for of_host in members[group].values() for pk in of_host]) for group in by_group}
    made = statistics_of(tables, starts, 1000 * step_seconds, devices)
    rows = {
        (group, start_ms): statistics.encode_fresh(one)
        for group, found in made.items() for start_ms, one in _single(found, starts)
    }  # fmt: skip
    with transaction.atomic():
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


# Numbers -------------------------------------------------------------------------------------------------------


def _tables(hosts: Collection[int], step_seconds: int, starts: Whole) -> tuple[Whole, Whole]:
    """Return all hosts' rows, `keys (k, 4)` and `values (k, n)`, at these buckets; zeros where a host has none."""
    keys, values, every = [np.empty((0, 4), np.int64)], [np.empty((0, starts.size), np.int64)], sorted(hosts)
    end_ms = int(starts[-1]) + 1000 * step_seconds
    for at in range(0, len(every), _HOSTS):
        some = every[at : at + _HOSTS]
        for table in rolled.of_hosts(some, step_seconds, int(starts[0]), end_ms, (*NUMBERS, ENERGY)).values():
            columns = np.searchsorted(starts, table.starts_ms)
            is_asked = starts[np.minimum(columns, starts.size - 1)] == table.starts_ms
            of_host = np.zeros((table.values.shape[0], starts.size), np.int64)
            of_host[:, columns[is_asked]] = table.values[:, is_asked]
            keys.append(table.keys.table)
            values.append(of_host)
    return np.concatenate(keys), np.concatenate(values)


def statistics_of(
    tables: tuple[Whole, Whole], starts: Whole, step_ms: int, devices: Mapping[int, Whole]
) -> dict[int, Statistics]:
    """Return each group's statistics over these buckets, of its `devices`: pure."""
    keys, values = tables
    metrics = {number: _of_metric(keys, values, number) for number in NUMBERS}
    made = {}
    for group, ids in devices.items():
        rows: list[tuple[tuple[int, int, int, int], Whole]] = []
        for number, found in metrics.items():
            rows += _across(number, found, np.isin(found.ids, ids))
        for field in _ENERGY_FIELDS:
            mine = (keys[:, 0] == ENERGY) & (keys[:, 1] == field) & np.isin(keys[:, 3], ids)
            rows.append(((ENERGY, field, 0, 0), values[mine].sum(axis=0)))
        table = np.array([key for key, _ in rows], np.int64).reshape(-1, 4)
        made[group] = statistics.ordered(table, np.stack([row for _, row in rows]), int(starts[0]), step_ms)
    return made


def _of_metric(keys: Whole, values: Whole, number: int) -> Devices:
    of_metric = keys[:, 0] == number

    def of(field: Field) -> Whole:
        rows = np.flatnonzero(of_metric & (keys[:, 1] == field))
        return rows[np.argsort(keys[rows, 3], kind="stable")]

    counts, sums = values[of(Field.COUNT)], values[of(Field.SUM)]
    means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return Devices(keys[of(Field.COUNT), 3], means, values[of(Field.MINIMUM)], values[of(Field.MAXIMUM)])


def _across(number: int, found: Devices, mine: np.ndarray) -> Iterator[tuple[tuple[int, int, int, int], Whole]]:
    means = np.sort(found.means[mine], axis=0)  # NaN stands last
    known = ~np.isnan(found.means[mine])
    counts, per_step = known.sum(axis=0), statistics.parts_of_step(number)
    limits = np.iinfo(np.int64)
    low = np.where(known, found.minima[mine], limits.max).min(axis=0, initial=limits.max)
    high = np.where(known, found.maxima[mine], limits.min).max(axis=0, initial=limits.min)
    yield (number, Field.COUNT, 0, 0), counts
    yield (number, Field.SUM, 0, 0), _rounded(np.nansum(means, axis=0) * per_step)
    yield (number, Field.MINIMUM, 0, 0), np.where(counts > 0, low, 0)
    yield (number, Field.MAXIMUM, 0, 0), np.where(counts > 0, high, 0)
    for field, share in _SHARES.items():
        yield (number, field, 0, 0), _rounded(_percentile(means, counts, share) * per_step)


def _percentile(ascending: Floats, counts: Whole, share: float) -> Floats:
    """Return the percentile of each column's first `counts` values, linear between two; 0 of none."""
    if not ascending.shape[0]:
        return np.zeros(counts.size)
    at = share * np.maximum(counts - 1, 0)
    low, columns = np.floor(at).astype(np.int64), np.arange(counts.size)
    high = np.minimum(low + 1, np.maximum(counts - 1, 0))
    below, above = ascending[low, columns], ascending[high, columns]
    found: Floats = np.where(counts > 0, below + (above - below) * (at - low), 0.0)
    return found


def _rounded(values: Floats) -> Whole:
    return np.rint(values).astype(np.int64)


def _single(found: Statistics, starts: Whole) -> Iterator[tuple[int, Statistics]]:
    for column, start_ms in enumerate(starts.tolist()):
        values = found.values[:, [column]]
        if values.any():
            yield start_ms, found._replace(start_ms=start_ms, values=values)
