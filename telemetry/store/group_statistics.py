"""What the statistics across a group's devices are, made of the hosts' own rollups. Called by the rollups and their check.

Percentiles are of devices: they are made anew at each resolution, not of finer percentiles.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fleet.models import Device, DeviceKind
from telemetry import catalog
from telemetry.models import GroupKind, RollupGroup
from telemetry.store import rolled, statistics
from telemetry.store.charging import charged
from telemetry.store.groups import ACCOUNT, members
from telemetry.store.samples import Floats
from telemetry.store.statistics import ENERGY, Field, Statistics, Whole

NUMBERS = tuple(metric.number for metric in catalog.METRICS if metric.across)
_HOSTS = 250  # in one query
_ENERGY_FIELDS = (Field.MEASURED_MILLIJOULES, Field.ESTIMATED_MILLIJOULES, Field.COVERED_MILLISECONDS)
Key = tuple[int, int, int, int]  # number, field, argument, owner
_SHARES = {Field.P10: 0.1, Field.P50: 0.5, Field.P90: 0.9}


class Group(NamedTuple):
    """A group's devices: `ids`, their `hosts`, and which of them are nodes, `(d,)` each.

    Of an account only energy is kept: that of devices (argument 0) and of nodes (1), and what is charged, where `has_charges`.
    """

    ids: Whole
    hosts: Whole
    is_node: NDArray[np.bool_]
    is_account: bool = False
    has_charges: bool = False


class Devices(NamedTuple):
    """One metric of devices over buckets: `ids (d,)`, the others `(d, n)`; `means` NaN where a device gave nothing."""

    ids: Whole
    means: Floats  # in steps of the metric's resolution
    minima: Whole
    maxima: Whole


def of_members(groups: Collection[int]) -> dict[int, Group]:
    """Return who is in these groups now."""
    rows = RollupGroup.objects.filter(pk__in=groups).values_list("pk", "devices", "kind")
    kinds = {pk: (devices == ACCOUNT, kind != GroupKind.MODEL) for pk, devices, kind in rows}
    nodes = set(Device.objects.filter(kind=DeviceKind.NODE).values_list("pk", flat=True))
    found = {}
    for group, hosts in members(groups).items():
        of_devices = [(pk, host, pk in nodes) for host, of_host in hosts.items() for pk in of_host]
        ids, of_hosts, is_node = np.array(of_devices, np.int64).reshape(-1, 3).T
        found[group] = Group(ids, of_hosts, is_node.astype(np.bool_), *kinds.get(group, (False, False)))
    return found


def tables(hosts: Collection[int], step_seconds: int, starts: Whole) -> tuple[Whole, Whole]:
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


def of_groups(
    found: tuple[Whole, Whole], starts: Whole, step_ms: int, groups: Mapping[int, Group]
) -> dict[int, Statistics]:
    """Return each group's statistics over these buckets: pure."""
    keys, values = found
    metrics = {number: _of_metric(keys, values, number) for number in NUMBERS}
    of_energy = keys[:, 0] == ENERGY
    energy = keys[of_energy], values[of_energy]
    made = {}
    for group, who in groups.items():
        rows: list[tuple[Key, Whole]] = []
        if who.is_account:
            rows += _account(energy, who)
        else:
            for number, each in metrics.items():
                rows += _across(number, each, np.isin(each.ids, who.ids))
            rows += [((ENERGY, field, 0, 0), _amounts(energy, field, who.ids).sum(axis=0)) for field in _ENERGY_FIELDS]
        table = np.array([key for key, _ in rows], np.int64).reshape(-1, 4)
        made[group] = statistics.ordered(table, np.stack([row for _, row in rows]), int(starts[0]), step_ms)
    return made


def _account(energy: tuple[Whole, Whole], who: Group) -> Iterator[tuple[Key, Whole]]:
    amounts = [_amounts(energy, field, who.ids) for field in _ENERGY_FIELDS]
    for field, each in zip(_ENERGY_FIELDS, amounts, strict=True):
        yield (ENERGY, field, 0, 0), each[~who.is_node].sum(axis=0)
        yield (ENERGY, field, 1, 0), each[who.is_node].sum(axis=0)
    if who.has_charges and who.ids.size:
        measured, estimated, covered = amounts
        for argument, each in enumerate(charged(measured + estimated, covered, who.is_node, who.hosts)):
            yield (ENERGY, Field.CHARGED_MILLIJOULES, argument, 0), each


def _amounts(energy: tuple[Whole, Whole], field: Field, ids: Whole) -> Whole:
    """Return the devices' own, `(d, n)`; zeros of those that have none. Of one that moved all its hosts have some."""
    keys, values = energy
    rows = np.flatnonzero(keys[:, 1] == field)
    rows = rows[np.argsort(keys[rows, 3], kind="stable")]
    owners = keys[rows, 3]
    found: Whole = np.zeros((ids.size, values.shape[1]), np.int64)
    if (begins := _begins(owners)) is not None:
        values, owners, rows = np.add.reduceat(values[rows], begins), owners[begins], np.arange(begins.size)
    if rows.size:
        at = np.minimum(np.searchsorted(owners, ids), rows.size - 1)
        has = owners[at] == ids
        found[has] = values[rows[at[has]]]
    return found


def _begins(owners: Whole) -> Whole | None:
    """Return where each owner's rows begin, ascending as they are; None where all have one: no device has moved lately."""
    is_new = np.diff(owners, prepend=-1) != 0
    return None if is_new.all() else np.flatnonzero(is_new)


def _of_metric(keys: Whole, values: Whole, number: int) -> Devices:
    of_metric = keys[:, 0] == number

    def of(field: Field) -> Whole:
        rows = np.flatnonzero(of_metric & (keys[:, 1] == field))
        return rows[np.argsort(keys[rows, 3], kind="stable")]

    counts, sums = values[of(Field.COUNT)], values[of(Field.SUM)]
    low, high = values[of(Field.MINIMUM)], values[of(Field.MAXIMUM)]
    owners = keys[of(Field.COUNT), 3]
    if (begins := _begins(owners)) is not None:
        limits, owners = np.iinfo(np.int64), owners[begins]
        low = np.minimum.reduceat(np.where(counts > 0, low, limits.max), begins)
        high = np.maximum.reduceat(np.where(counts > 0, high, limits.min), begins)
        counts, sums = np.add.reduceat(counts, begins), np.add.reduceat(sums, begins)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return Devices(owners, means, low, high)


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
