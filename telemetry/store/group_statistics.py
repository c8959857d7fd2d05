"""What the statistics across a group's devices are, made of the hosts' own rollups. Called by the rollups and their check.

Percentiles are of devices: they are made anew at each resolution, not of finer percentiles.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from django.db.models import Q
from numpy.typing import NDArray

from fleet.models import Device, DeviceKind, Host
from telemetry import catalog
from telemetry.models import GroupKind, RollupGroup
from telemetry.store import rolled, statistics
from telemetry.store.charging import charged
from telemetry.store.groups import ACCOUNT, OF_HOSTS, members
from telemetry.store.samples import Floats
from telemetry.store.statistics import ENERGY, Field, Statistics, Whole

NUMBERS = tuple(metric.number for metric in catalog.METRICS if metric.across)
_HOSTS = 250  # in one query
_ENERGY_FIELDS = (Field.MEASURED_MILLIJOULES, Field.ESTIMATED_MILLIJOULES, Field.COVERED_MILLISECONDS)
Key = tuple[int, int, int, int]  # number, field, argument, owner
_SHARES = {Field.P10: 0.1, Field.P50: 0.5, Field.P90: 0.9}


class Group(NamedTuple):
    """A group's devices by id, `(d,)`, and those of them that are nodes; a group of hosts counts what they did on its `hosts`.

    `hosts` None is wherever they were. Of an account only energy is kept: that of devices (argument 0) and of nodes (1), and
    where it `pays` what its hosts are charged for.
    """

    ids: Whole
    nodes: Whole
    hosts: Whole | None = None
    is_account: bool = False
    pays: bool = False

    def has(self, ids: Whole, hosts: Whole) -> NDArray[np.bool_]:
        """Return what it counts of what devices did on hosts, `(r,)` each."""
        found = np.isin(ids, self.ids)
        return found if self.hosts is None else found & np.isin(hosts, self.hosts)


class Rows(NamedTuple):
    """What the hosts' rollups hold of some buckets: `keys (k, 4)`, `values (k, n)`, and whose each is, `hosts (k,)`."""

    keys: Whole
    values: Whole
    hosts: Whole


class _Drawn(NamedTuple):
    """Energy of devices, by host too: `ids` and `hosts (r,)`, `amounts (3, r, n)` as _ENERGY_FIELDS; of one that moved, each."""

    ids: Whole
    hosts: Whole
    amounts: Whole


class Devices(NamedTuple):
    """One metric of devices over buckets: `ids (d,)` ascending and their `hosts`, the others `(d, n)`.

    One that moved within the buckets has a row of each of its hosts. `means` are NaN where a device gave nothing.
    """

    ids: Whole
    hosts: Whole
    counts: Whole
    sums: Whole
    means: Floats  # in steps of the metric's resolution
    minima: Whole
    maxima: Whole

    def of(self, who: Group) -> tuple[Floats, Whole, Whole]:
        """Return means, minima and maxima of what the group counts, each device once."""
        mine = who.has(self.ids, self.hosts)
        if (begins := _begins(self.ids[mine])) is None:
            return self.means[mine], self.minima[mine], self.maxima[mine]
        return _merged(self.kept(mine), begins)

    def kept(self, mine: NDArray[np.bool_]) -> "Devices":
        return Devices(
            self.ids[mine], self.hosts[mine], self.counts[mine], self.sums[mine], self.means[mine], self.minima[mine],
            self.maxima[mine],
        )  # fmt: skip


def of_members(groups: Collection[int]) -> dict[int, Group]:
    """Return who is in these groups now."""
    rows = RollupGroup.objects.filter(Q(pk__in=groups) | Q(kind=GroupKind.FLEET)).values_list("pk", "kind", "devices")
    kinds = {pk: (kind, devices) for pk, kind, devices in rows}
    nodes = np.array(Device.objects.filter(kind=DeviceKind.NODE).values_list("pk", flat=True), np.int64)
    named = members({*groups, *kinds})
    ids = {
        group: np.array(sorted({pk for of_host in hosts.values() for pk in of_host}), np.int64)
        for group, hosts in named.items()
    }
    of_class = {devices: ids[pk] for pk, (kind, devices) in kinds.items() if kind == GroupKind.FLEET}
    found = {}
    for group in groups:
        kind, devices = kinds.get(group, (GroupKind.FLEET, ""))
        is_account = devices == ACCOUNT
        whose = np.array(sorted(named[group]), np.int64) if kind in OF_HOSTS else None
        counted = ids[group] if whose is None else of_class.get(devices, ids[group])
        pays = is_account and kind != GroupKind.MODEL
        found[group] = Group(counted, np.intersect1d(nodes, counted), whose, is_account, pays)
    return found


def tables(step_seconds: int, starts: Whole) -> Rows:
    """Return all hosts' rows at these buckets; zeros where a host has none.

    What a group's devices drew, another host may hold, that they have left: which one, only its rows tell.
    """
    keys, values, hosts = [np.empty((0, 4), np.int64)], [np.empty((0, starts.size), np.int64)], [np.empty(0, np.int64)]
    every = sorted(Host.objects.order_by().values_list("pk", flat=True))
    end_ms = int(starts[-1]) + 1000 * step_seconds
    for at in range(0, len(every), _HOSTS):
        some = every[at : at + _HOSTS]
        found = rolled.of_hosts(some, step_seconds, int(starts[0]), end_ms, (*NUMBERS, ENERGY))
        for host, table in found.items():
            columns = np.searchsorted(starts, table.starts_ms)
            is_asked = starts[np.minimum(columns, starts.size - 1)] == table.starts_ms
            of_host = np.zeros((table.values.shape[0], starts.size), np.int64)
            of_host[:, columns[is_asked]] = table.values[:, is_asked]
            keys.append(table.keys.table)
            values.append(of_host)
            hosts.append(np.full(of_host.shape[0], host))
    return Rows(np.concatenate(keys), np.concatenate(values), np.concatenate(hosts))


def of_groups(found: Rows, starts: Whole, step_ms: int, groups: Mapping[int, Group]) -> dict[int, Statistics]:
    """Return each group's statistics over these buckets: pure."""
    metrics = {number: _of_metric(found, number) for number in NUMBERS}
    drawn, made = _drawn(found), {}
    for group, who in groups.items():
        rows: list[tuple[Key, Whole]] = []
        if who.is_account:
            rows += _account(drawn, who)
        else:
            for number, each in metrics.items():
                rows += _across(number, *each.of(who))
            summed = drawn.amounts[:, who.has(drawn.ids, drawn.hosts)].sum(axis=1)
            rows += [((ENERGY, field, 0, 0), each) for field, each in zip(_ENERGY_FIELDS, summed, strict=True)]
        table = np.array([key for key, _ in rows], np.int64).reshape(-1, 4)
        made[group] = statistics.ordered(table, np.stack([row for _, row in rows]), int(starts[0]), step_ms)
    return made


def _account(found: _Drawn, who: Group) -> Iterator[tuple[Key, Whole]]:
    rows = np.flatnonzero(who.has(found.ids, found.hosts))
    amounts, is_node = found.amounts[:, rows], np.isin(found.ids[rows], who.nodes)
    for field, each in zip(_ENERGY_FIELDS, amounts, strict=True):
        yield (ENERGY, field, 0, 0), each[~is_node].sum(axis=0)
        yield (ENERGY, field, 1, 0), each[is_node].sum(axis=0)
    if rows.size and who.pays:
        measured, estimated, covered = amounts
        for argument, each in enumerate(charged(measured + estimated, covered, is_node, found.hosts[rows])):
            yield (ENERGY, Field.CHARGED_MILLIJOULES, argument, 0), each


def _drawn(found: Rows) -> _Drawn:
    rows = np.flatnonzero((found.keys[:, 0] == ENERGY) & np.isin(found.keys[:, 1], _ENERGY_FIELDS))
    hosts, ids = found.hosts[rows], found.keys[rows, 3]
    wide = int(ids.max(initial=0)) + 1
    pairs, places = np.unique(hosts * wide + ids, return_inverse=True)
    amounts: Whole = np.zeros((len(_ENERGY_FIELDS), pairs.size, found.values.shape[1]), np.int64)
    for own, field in zip(amounts, _ENERGY_FIELDS, strict=True):
        of_field = found.keys[rows, 1] == field
        own[places[of_field]] = found.values[rows[of_field]]
    return _Drawn(pairs % wide, pairs // wide, amounts)


def _begins(owners: Whole) -> Whole | None:
    """Return where each owner's rows begin, ascending as they are; None where all have one: no device has moved lately."""
    is_new = np.diff(owners, prepend=-1) != 0
    return None if is_new.all() else np.flatnonzero(is_new)


def _of_metric(found: Rows, number: int) -> Devices:
    keys, values = found.keys, found.values
    of_metric = keys[:, 0] == number

    def of(field: Field) -> Whole:
        rows = np.flatnonzero(of_metric & (keys[:, 1] == field))
        return rows[np.argsort(keys[rows, 3], kind="stable")]

    counts, sums = values[of(Field.COUNT)], values[of(Field.SUM)]
    low, high = values[of(Field.MINIMUM)], values[of(Field.MAXIMUM)]
    rows = of(Field.COUNT)
    return Devices(keys[rows, 3], found.hosts[rows], counts, sums, _means(counts, sums), low, high)


def _means(counts: Whole, sums: Whole) -> Floats:
    means: Floats = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return means


def _merged(found: Devices, begins: Whole) -> tuple[Floats, Whole, Whole]:
    """Return means, minima and maxima of each device, whose rows begin there."""
    limits, is_there = np.iinfo(np.int64), found.counts > 0
    low = np.minimum.reduceat(np.where(is_there, found.minima, limits.max), begins)
    high = np.maximum.reduceat(np.where(is_there, found.maxima, limits.min), begins)
    counts, sums = np.add.reduceat(found.counts, begins), np.add.reduceat(found.sums, begins)
    return _means(counts, sums), low, high


def _across(number: int, given: Floats, minima: Whole, maxima: Whole) -> Iterator[tuple[Key, Whole]]:
    means = np.sort(given, axis=0)  # NaN stands last
    known = ~np.isnan(given)
    counts, per_step = known.sum(axis=0), statistics.parts_of_step(number)
    limits = np.iinfo(np.int64)
    low = np.where(known, minima, limits.max).min(axis=0, initial=limits.max)
    high = np.where(known, maxima, limits.min).max(axis=0, initial=limits.min)
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
