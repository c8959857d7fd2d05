"""The energy of groups from their rollups, as far as these are made. Called by the accounts of the whole fleet."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from telemetry.models import DirtyGroup, DirtyRollup
from telemetry.store import rolled
from telemetry.store.energy_rows import MINUTE_MS, quarters_of, shared_out
from telemetry.store.made_hours import HOUR_MS
from telemetry.store.rolled import Table
from telemetry.store.samples import Floats
from telemetry.store.statistics import ENERGY, Field

_QUARTER = 900
_MANY_HOURS = 48  # read from minutes: above this the hosts' hours are read faster


class GroupEnergy(NamedTuple):
    """Joules of a group's devices, or of its nodes, over buckets of `step_ms` that begin at `starts_ms (n,)`.

    `by_devices` and `by_meters (n,)` are what is charged of its hosts: both are 0 where the group is no group of hosts.
    """

    starts_ms: NDArray[np.int64]
    step_ms: int
    measured: Floats
    estimated: Floats
    covered_seconds: Floats
    by_devices: Floats
    by_meters: Floats

    def of_buckets(self, places: list[int]) -> "GroupEnergy":
        """Return those buckets only."""
        rest = (values[places] for values in self[2:])
        return GroupEnergy(self.starts_ms[places], self.step_ms, *rest)

    def in_quarters(self) -> "GroupEnergy":
        """Return hours as their quarters: shared out by time, and so estimated."""
        starts, step_ms = quarters_of(self.starts_ms, self.step_ms)
        parts = (self.measured + self.estimated, self.covered_seconds, self.by_devices, self.by_meters)
        drawn, covered, *charged = map(shared_out, parts)
        return GroupEnergy(starts, step_ms, np.zeros_like(drawn), drawn, covered, *charged)


class Stretch(NamedTuple):
    """Buckets of one length that lie side by side; of hosts, where the groups' are not made."""

    step_seconds: int
    start_ms: int
    end_ms: int
    is_of_groups: bool


def stretches(
    groups: Collection[int], start_ms: int, end_ms: int, *, kept_from_ms: Mapping[int, int],
    quarters_from_ms: int | None = None, split: Collection[int] = (),
) -> list[Stretch] | None:  # fmt: skip
    """Return of which buckets whole minutes of the span are read: hours of the groups, minutes where there is less.

    What is marked to be made again, of any of the groups or of any host, is read from the hosts' minutes. None where that is
    so of many hours. What lies before `kept_from_ms` of its step is read from the hosts too: the groups' is retired by age,
    and imported hosts keep theirs. Of the quarters that begin at `split` the minutes are read, where the groups keep them.
    """
    minutes, hours = _marked(groups, start_ms, end_ms)
    if len(hours) > _MANY_HOURS:
        return None
    cuts = kept_from_ms[3600], end_ms if quarters_from_ms is None else quarters_from_ms
    first, last = -(-start_ms // HOUR_MS) * HOUR_MS, end_ms // HOUR_MS * HOUR_MS
    finer = sorted(at for at in split if at >= kept_from_ms[60])
    if first >= last:
        return _joined(_minutes(start_ms, end_ms, minutes, kept_from_ms[60]))
    found, at = _minutes(start_ms, first, minutes, kept_from_ms[60]), first
    for marked in [*sorted(hour for hour in hours if first <= hour < last), last]:
        found += _split(_hours(at, marked, *cuts), finer)
        at = min(marked + HOUR_MS, last)
        found += _minutes(marked, at, minutes, kept_from_ms[60])
    return _joined(found + _minutes(last, end_ms, minutes, kept_from_ms[60]))


def _hours(start_ms: int, end_ms: int, kept_from_ms: int, quarters_from_ms: int) -> list[Stretch]:
    """Return whole hours, of the groups as long as these are kept, by their quarters from a time on; few, however many hours."""
    cuts = sorted(-(-at // HOUR_MS) * HOUR_MS for at in (kept_from_ms, quarters_from_ms))
    bounds = [start_ms, *(at for at in cuts if start_ms < at < end_ms), end_ms]
    return [
        Stretch(3600 if at < quarters_from_ms else 900, at, until, at >= kept_from_ms)
        for at, until in pairwise(bounds)
        if at < until
    ]


def _split(found: Iterable[Stretch], quarters: Sequence[int]) -> Iterator[Stretch]:
    """Yield the stretches with those quarters, ascending, by their minutes."""
    for each in found:
        at = each.start_ms
        for quarter in quarters if each.step_seconds == _QUARTER and each.is_of_groups else ():
            if at <= quarter < each.end_ms:
                yield each._replace(start_ms=at, end_ms=quarter)
                at = quarter + 1000 * _QUARTER
                yield Stretch(60, quarter, at, is_of_groups=True)
        yield each._replace(start_ms=at)


def _minutes(start_ms: int, end_ms: int, marked: Collection[int], kept_from_ms: int) -> list[Stretch]:
    return [
        Stretch(60, at, at + MINUTE_MS, at not in marked and at >= kept_from_ms)
        for at in range(start_ms, end_ms, MINUTE_MS)
    ]


def _marked(groups: Collection[int], start_ms: int, end_ms: int) -> tuple[set[int], set[int]]:
    """Return the minutes, and the hours with anything, that are to be made again."""
    inside = {"start_ms__gte": start_ms - HOUR_MS, "start_ms__lt": end_ms}
    marks = set(DirtyRollup.objects.filter(**inside).order_by().values_list("step_seconds", "start_ms").distinct())
    of_groups = DirtyGroup.objects.filter(group__in=groups, **inside)
    marks |= set(of_groups.order_by().values_list("step_seconds", "start_ms").distinct())
    return {at for step, at in marks if step == 60}, {at // HOUR_MS * HOUR_MS for _, at in marks}


def _joined(found: Iterable[Stretch]) -> list[Stretch]:
    joined: list[Stretch] = []
    for each in found:
        if each.start_ms >= each.end_ms:
            continue
        before = joined[-1] if joined else None
        if before and before.end_ms == each.start_ms and before[0] == each[0] and before[3] == each[3]:
            joined[-1] = before._replace(end_ms=each.end_ms)
        else:
            joined.append(each)
    return joined


def of_groups(groups: Collection[int], found: Stretch, *, is_of_nodes: bool) -> dict[int, GroupEnergy]:
    """Return the energy of the stretch by group: that of its nodes, or of its devices."""
    tables = rolled.of_groups(groups, found.step_seconds, found.start_ms, found.end_ms, [ENERGY])
    return {group: _of_group(table, int(is_of_nodes)) for group, table in tables.items()}


def _of_group(found: Table, scope: int) -> GroupEnergy:
    def of(field: Field, argument: int) -> Floats:
        rows = np.flatnonzero((found.keys.fields == field) & (found.keys.arguments == argument))
        summed: Floats = found.values[rows].sum(axis=0) / 1000
        return summed

    scoped = (Field.MEASURED_MILLIJOULES, Field.ESTIMATED_MILLIJOULES, Field.COVERED_MILLISECONDS)
    charged = (of(Field.CHARGED_MILLIJOULES, argument) for argument in (0, 1))
    return GroupEnergy(found.starts_ms, found.step_ms, *(of(field, scope) for field in scoped), *charged)
