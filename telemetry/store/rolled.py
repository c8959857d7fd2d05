"""Rows of rollups ↔ statistics on one axis of time; making coarser buckets of finer ones. Called by the rollups and by reading.

A fresh row holds one bucket; where a joined row holds the same bucket, the fresh one was made later and holds.
"""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from telemetry import vendor_sql
from telemetry.models import GroupRollup, Rollup
from telemetry.store import statistics
from telemetry.store.statistics import Field, Keys, RollupCorrupt, Statistics, Wanted, Whole

logger = logging.getLogger(__name__)

# By bucket: over what time the fresh rows are joined to one, in seconds.
PERIODS = {60: 3600, 900: 86_400, 3600: 30 * 86_400}
GROUP_PERIODS = {60: 86_400, 900: 10 * 86_400, 3600: 90 * 86_400}  # groups are few, and are read over longer times
STEPS = tuple(PERIODS)
_TABLES: Mapping[type[Rollup] | type[GroupRollup], str] = {
    Rollup: "telemetry_rollup", GroupRollup: "telemetry_grouprollup",
}  # fmt: skip

_EXTREMES = {Field.MINIMUM: np.minimum, Field.MAXIMUM: np.maximum}


class Table(NamedTuple):
    """Statistics of buckets that need not lie side by side: `starts_ms (n,)` ascending, `values (k, n)`."""

    keys: Keys
    step_ms: int
    starts_ms: Whole
    values: Whole

    def rows(self, number: int, field: Field) -> NDArray[np.int64]:
        return np.flatnonzero((self.keys.numbers == number) & (self.keys.fields == field))

    def between(self, start_ms: int, end_ms: int) -> "Table":
        """Return the buckets that begin in this time."""
        first, last = np.searchsorted(self.starts_ms, [start_ms, end_ms])
        return self._replace(starts_ms=self.starts_ms[first:last], values=self.values[:, first:last])


def of_hosts(
    hosts: Collection[int], step_seconds: int, start_ms: int, end_ms: int, numbers: Collection[int] | None = None,
    fields: Collection[Field] | None = None, unread: set[int] | None = None,
) -> dict[int, Table]:  # fmt: skip
    """Return the buckets that begin in start ≤ time < end by host id; a host without any is left out.

    A row that is corrupt is reported and left out; `unread` gets the hosts of such.
    """
    return _tables(Rollup, "host", hosts, step_seconds, start_ms, end_ms, _wanted(numbers, fields), unread)


def of_groups(
    groups: Collection[int], step_seconds: int, start_ms: int, end_ms: int, numbers: Collection[int] | None = None,
    fields: Collection[Field] | None = None,
) -> dict[int, Table]:  # fmt: skip
    """Return the same by group id."""
    return _tables(GroupRollup, "group", groups, step_seconds, start_ms, end_ms, _wanted(numbers, fields))


def _wanted(numbers: Collection[int] | None, fields: Collection[Field] | None = None) -> Wanted:
    return Wanted(*(None if each is None else frozenset(map(int, each)) for each in (numbers, fields)))


def _tables(
    model: type[Rollup] | type[GroupRollup], owner: str, owners: Collection[int], step_seconds: int,
    start_ms: int, end_ms: int, wanted: Wanted, unread: set[int] | None = None,
) -> dict[int, Table]:  # fmt: skip
    step_ms = 1000 * step_seconds
    period_ms = 1000 * (PERIODS if model is Rollup else GROUP_PERIODS)[step_seconds]
    rows = vendor_sql.rollup_bodies(
        _TABLES[model], f"{owner}_id", owners, step_seconds, (start_ms - period_ms, end_ms),
        in_parts=wanted.numbers is not None,
    )  # fmt: skip
    found: dict[int, list[tuple[int, Statistics]]] = {}
    for owner_id, first_ms, n_buckets, body in rows:
        if first_ms + n_buckets * step_ms > start_ms:
            try:
                each = statistics.decode(body, first_ms, step_ms, wanted)
            except RollupCorrupt as error:
                logger.warning("the rollup of %s %d from %d cannot be read: %s", owner, owner_id, first_ms, error)
                if unread is not None:
                    unread.add(owner_id)
                continue
            found.setdefault(owner_id, []).append((n_buckets, each.between(start_ms, end_ms)))
    tables = ((owner_id, stacked(_joined_first(each))) for owner_id, each in found.items())
    return {owner_id: table for owner_id, table in tables if table.starts_ms.size}


def _joined_first(found: Sequence[tuple[int, Statistics]]) -> list[Statistics]:
    """By how many buckets each row has, not the part of it that is read: of a joined row this may be one, as of a fresh one."""
    return [each for _, each in sorted(found, key=lambda pair: -pair[0])]


def stacked(found: Sequence[Statistics]) -> Table:
    """Return all buckets on one axis; of those that stand twice the fresh one, which of equally long ones comes last."""
    if len(found) == 1:
        return Table(found[0].keys, found[0].step_ms, found[0].starts_ms, found[0].values)
    keys, rows = union([each.keys for each in found])
    if all(at is None for at in rows) and (in_order := _one_after_another(found)):
        starts = np.concatenate([each.starts_ms for each in in_order])
        return Table(keys, found[0].step_ms, starts, np.concatenate([each.values for each in in_order], axis=1))
    starts = np.unique(np.concatenate([each.starts_ms for each in found]))
    values = np.zeros((keys.numbers.size, starts.size), np.int64)
    for each, at in sorted(zip(found, rows, strict=True), key=lambda pair: -pair[0].values.shape[1]):
        columns = np.searchsorted(starts, each.starts_ms)
        values[:, columns] = 0
        if at is None:
            values[:, columns] = each.values
        else:
            values[at[:, None], columns] = each.values
    return Table(keys, found[0].step_ms, starts, values)


def _one_after_another(found: Sequence[Statistics]) -> list[Statistics]:
    """Return them by time where no bucket stands twice, as it mostly is; else nothing."""
    in_order = sorted((each for each in found if each.values.shape[1]), key=lambda each: each.start_ms)
    is_free = all(one.end_ms <= other.start_ms for one, other in pairwise(in_order))
    return in_order if is_free else []


def union(all_keys: Sequence[Keys]) -> tuple[Keys, list[NDArray[np.int64] | None]]:
    """Return the keys of all, and the rows of each among them; None where they are the same."""
    distinct = {id(keys): keys for keys in all_keys}
    if len(distinct) == 1:
        return all_keys[0], [None] * len(all_keys)
    tables = {which: [tuple(row) for row in keys.table.tolist()] for which, keys in distinct.items()}
    every = sorted({row for table in tables.values() for row in table})
    place = {row: at for at, row in enumerate(every)}
    rows = {which: np.array([place[row] for row in table], np.int64) for which, table in tables.items()}
    columns = np.array(every, np.int64).reshape(-1, 4).T
    return statistics.interned(*np.ascontiguousarray(columns)), [rows[id(keys)] for keys in all_keys]


def regrouped(table: Table, first_ms: int, step_ms: int, n: int) -> Statistics:
    """Return the statistics of `n` coarser buckets; those of which the table holds no part are empty."""
    keys, bucket = table.keys, (table.starts_ms - first_ms) // step_ms
    inside = np.flatnonzero((bucket >= 0) & (bucket < n))
    bucket, source = bucket[inside], table.values[:, inside]
    values = np.zeros((keys.numbers.size, n), np.int64)
    if not inside.size:
        return Statistics(keys, first_ms, step_ms, values)
    begins = np.flatnonzero(np.diff(bucket, prepend=-1))
    filled = bucket[begins]
    values[:, filled] = np.add.reduceat(source, begins, axis=1)
    for field, extreme in _EXTREMES.items():
        rows = np.flatnonzero(keys.fields == field)
        none = np.iinfo(np.int64).max if field == Field.MINIMUM else np.iinfo(np.int64).min
        known = source[keys.counts[rows]] > 0
        found = extreme.reduceat(np.where(known, source[rows], none), begins, axis=1)
        values[np.ix_(rows, filled)] = np.where(found == none, 0, found)
    rows = np.flatnonzero(keys.fields == Field.LAST)
    at = np.where(source[keys.counts[rows]] > 0, np.arange(bucket.size), -1)
    newest = np.maximum.reduceat(at, begins, axis=1)
    last = np.take_along_axis(source[rows], np.maximum(newest, 0), axis=1)
    values[np.ix_(rows, filled)] = np.where(newest >= 0, last, 0)
    return Statistics(keys, first_ms, step_ms, values)


def spans(model: type[Rollup] | type[GroupRollup], **owner: int) -> Iterable[tuple[int, int, int]]:
    """Yield (step_seconds, start_ms, n_buckets) of the rows of one host or group, without their bodies."""
    rows = model.objects.filter(**owner)
    yield from rows.values_list("step_seconds", "start_ms", "n_buckets").iterator(chunk_size=2000)
