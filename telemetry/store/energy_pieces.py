"""The energy of devices over windows of any length, in pieces of time each of which lies in one window. For the accounts.

An hour that no window's edge cuts comes from its rollup, one that is cut from its minutes, and a minute that is cut, or not
made yet, from the samples. What was retired is taken from the next coarser rollup, and shared out by time where an edge cuts it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fleet.models import Device
from telemetry.models import DirtyRollup
from telemetry.store import energy_rows, joules, samples, stays
from telemetry.store.energy_rows import MINUTE_MS, Floats
from telemetry.store.made_hours import HOUR_MS

QUARTER_MS = 900_000
_HOSTS = 50  # in memory at once, and of them so many buckets
_BUCKETS = 48
_MOST_HOST_MINUTES = 400  # read from samples at most, of all hosts: beyond it minutes are shared out
_REACH_MS = 25_000  # a gap at the slowest sampling of an agent: both ends of a minute find a sample
_ROUNDED_SECONDS = 0.05  # the sum of so many rollups, each to a millisecond, may differ by this from a coarser one

Whole = NDArray[np.int64]
Flags = NDArray[np.bool_]
_FIELDS = 3  # measured joules, estimated joules, covered seconds


class Pieces(NamedTuple):
    """Energy in pieces of time, each `(p,)`: of which device, in which window, from when to when, joules and covered seconds."""

    device_ids: Whole
    windows: Whole
    starts_ms: Whole
    ends_ms: Whole
    measured: Floats
    estimated: Floats
    covered_seconds: Floats


class _Cells(NamedTuple):
    """The same before the windows' edges cut them: `places (c,)` among the devices, `values (_FIELDS, c)`."""

    places: Whole
    starts_ms: Whole
    ends_ms: Whole
    values: Floats

    @classmethod
    def none(cls) -> "_Cells":
        none = np.empty(0, np.int64)
        return cls(none, none, none, np.empty((_FIELDS, 0)))

    def kept(self, keep: Flags) -> "_Cells":
        return _Cells(self.places[keep], self.starts_ms[keep], self.ends_ms[keep], self.values[:, keep])


def read(
    devices: Sequence[Device], edges_ms: Whole, *, by_quarters: bool = False, split: Sequence[int] = ()
) -> Iterator[Pieces]:
    """Yield the pieces of the windows between the edges `(n + 1,)`, ascending; what is not covered is in none.

    `by_quarters` gives no piece longer than a quarter of an hour where quarters are kept: for what a time of day costs. The
    hours of the quarters that begin at `split` come by their minutes where these are kept.
    """
    by_host: dict[int, list[Device]] = {}
    for device in devices:
        by_host.setdefault(device.host_id, []).append(device)
    hosts = sorted(by_host)
    for at in range(0, len(hosts), _HOSTS):
        some = hosts[at : at + _HOSTS]
        chosen = sorted((device for host in some for device in by_host[host]), key=lambda device: device.pk)
        # Also those that had them then: each device stands in one reading, whoever had it.
        then = sorted(stays.hosts_of(chosen, int(edges_ms[0]) - HOUR_MS, int(edges_ms[-1]) + HOUR_MS))
        reading = _Reading(then, chosen, edges_ms, np.array(split, np.int64), by_quarters=by_quarters)
        for cells in reading.cells(_MOST_HOST_MINUTES // len(hosts)):
            yield _cut(cells, reading.ids, edges_ms)


class _Reading:
    """Reads the cells of devices from the rollups of the hosts that have, or had them."""

    def __init__(
        self, hosts: Sequence[int], devices: Sequence[Device], edges_ms: Whole, split: Whole, *, by_quarters: bool
    ) -> None:
        self._hosts, self._devices, self._edges_ms, self._split = hosts, devices, edges_ms, split
        self._whole = (QUARTER_MS, HOUR_MS) if by_quarters else (HOUR_MS,)
        self.ids = np.array([device.pk for device in devices], np.int64)

    def cells(self, most_minutes: int) -> Iterator[_Cells]:
        """Yield hours that are made and not cut from their rollups, and of the others whatever tells most."""
        edges = self._edges_ms
        first_ms, end_ms = int(edges[0]) // HOUR_MS * HOUR_MS, -(-int(edges[-1]) // HOUR_MS) * HOUR_MS
        marks = DirtyRollup.objects.filter(host__in=self._hosts, start_ms__gte=first_ms, start_ms__lt=end_ms)
        marked = np.array(list(marks.values_list("step_seconds", "start_ms").distinct()), np.int64).reshape(-1, 2)
        broken = np.unique(
            np.concatenate((edges[edges % HOUR_MS != 0], marked[:, 1], self._split)) // HOUR_MS * HOUR_MS
        )
        minutes = self._exact(marked[marked[:, 0] * 1000 == MINUTE_MS, 1], most_minutes)
        for span in _runs(np.setdiff1d(np.arange(first_ms, end_ms, HOUR_MS), broken), HOUR_MS):
            yield from self._told(span, self._whole, _Cells.none())
        for span in _runs(broken, HOUR_MS):
            inside = minutes[(minutes >= span[0]) & (minutes < span[1])]
            yield from self._told(span, (MINUTE_MS, QUARTER_MS, HOUR_MS), self._sampled(inside))

    def _exact(self, unmade: Whole, most: int) -> Whole:
        """Return the minutes that are to be read from samples: those that an edge cuts, and the newest that are not made."""
        edges = self._edges_ms
        cut = np.unique(edges[edges % MINUTE_MS != 0] // MINUTE_MS * MINUTE_MS)
        unmade = np.setdiff1d(unmade[(unmade > edges[0] - MINUTE_MS) & (unmade < edges[-1])], cut)
        return np.sort(np.concatenate((cut, unmade[::-1]))[:most])

    def _told(self, span: tuple[int, int], steps_ms: Sequence[int], sampled: _Cells) -> Iterator[_Cells]:
        """Yield the cells of some hours: of each bucket its finer ones, unless it covers more than they do together."""
        levels = {step_ms: self._rollups(span, step_ms) for step_ms in steps_ms}
        finest = levels[steps_ms[0]]
        columns = (sampled.starts_ms - span[0]) // steps_ms[0]
        of_samples = np.zeros(finest.shape)
        for field, values in enumerate(sampled.values):
            np.add.at(of_samples[field], (sampled.places, columns), values)
        is_sampled = (of_samples[2] > 0) & (of_samples[2] + _ROUNDED_SECONDS >= finest[2])
        levels[steps_ms[0]] = np.where(is_sampled, of_samples, finest)
        chosen = _chosen(levels)
        yield sampled.kept((is_sampled & chosen[steps_ms[0]])[sampled.places, columns])
        chosen[steps_ms[0]] &= ~is_sampled
        for step_ms, told in levels.items():
            places, columns = np.nonzero(chosen[step_ms])
            starts = span[0] + step_ms * columns
            yield _Cells(places, starts, starts + step_ms, told[:, places, columns])

    def _rollups(self, span: tuple[int, int], step_ms: int) -> Floats:
        """Return what the rollups of one resolution tell, `(_FIELDS, devices, buckets)`; 0 where they tell nothing."""
        values = np.zeros((_FIELDS, self.ids.size, (span[1] - span[0]) // step_ms))
        for rows in energy_rows.of_step(self._hosts, step_ms // 1000, *span):
            is_asked = np.isin(rows.device_ids, self.ids)
            places = np.searchsorted(self.ids, rows.device_ids[is_asked])
            columns = (rows.starts_ms - span[0]) // step_ms
            for field, found in enumerate((rows.measured, rows.estimated, rows.covered_seconds)):
                values[field][places[:, None], columns] += found[is_asked]
        return values

    def _sampled(self, minutes: Whole) -> _Cells:
        """Return what the samples of these minutes tell, cut at the edges of windows."""
        parts = [part for span in _runs(minutes, MINUTE_MS) for part in self._of_samples(*span)]
        places, starts, ends, values = zip(_Cells.none(), *parts, strict=True)
        joined = np.concatenate(places), np.concatenate(starts), np.concatenate(ends)
        return _Cells(*joined, np.concatenate(values, axis=1))

    def _of_samples(self, start_ms: int, end_ms: int) -> Iterator[_Cells]:
        names = ("energy_joules_total", "power_draw_watts")
        found = samples.raw(self._devices, names, start_ms - _REACH_MS, end_ms + _REACH_MS)
        inside = self._edges_ms[(self._edges_ms > start_ms) & (self._edges_ms < end_ms)]
        edges = np.unique(np.concatenate((np.arange(start_ms, end_ms + 1, MINUTE_MS), inside)))
        for place, device in enumerate(self._devices):
            counter, power = (found.get((device.uuid, name)) for name in names)
            each = joules.between(counter, power, edges)
            values = np.stack((each.measured, each.estimated, each.covered_seconds))
            yield _Cells(np.full(edges.size - 1, place), edges[:-1], edges[1:], values)


def _runs(starts: Whole, step_ms: int) -> Iterator[tuple[int, int]]:
    """Yield (begin, end) of buckets that lie side by side, so many at once as are well kept in memory."""
    for part in np.split(starts, np.flatnonzero(np.diff(starts) != step_ms) + 1):
        for at in range(0, part.size, _BUCKETS):
            some = part[at : at + _BUCKETS]
            yield int(some[0]), int(some[-1]) + step_ms


def _chosen(levels: Mapping[int, Floats]) -> dict[int, Flags]:
    """Return which buckets of each level tell, `(devices, buckets)`, so that each moment is told of once."""
    (finest, found), *coarser_levels = levels.items()
    covered = found[2]
    chosen = {finest: covered > 0}
    for coarser, values in coarser_levels:
        finer = list(chosen)
        summed = covered.reshape(*values[2].shape, -1).sum(axis=2)
        is_fine = summed + _ROUNDED_SECONDS >= values[2]
        for step_ms in finer:
            chosen[step_ms] &= np.repeat(is_fine, coarser // step_ms, axis=1)
        chosen[coarser] = ~is_fine
        covered = np.where(is_fine, summed, values[2])
    return chosen


def _cut(cells: _Cells, ids: Whole, edges_ms: Whole) -> Pieces:
    """Return the cells' parts in the windows. What an edge cuts is shared out by time, and so estimated."""
    first = np.maximum(np.searchsorted(edges_ms, cells.starts_ms, side="right") - 1, 0)
    last = np.minimum(np.searchsorted(edges_ms, cells.ends_ms, side="left") - 1, edges_ms.size - 2)
    parts = []
    for offset in range(int((last - first).max(initial=0)) + 1):
        rows = np.flatnonzero(first + offset <= last)
        windows = first[rows] + offset
        begin = np.maximum(cells.starts_ms[rows], edges_ms[windows])
        end = np.minimum(cells.ends_ms[rows], edges_ms[windows + 1])
        share = (end - begin) / (cells.ends_ms[rows] - cells.starts_ms[rows])
        measured, estimated, covered = cells.values[:, rows] * share
        kept = np.where(share == 1, measured, 0)
        parts.append(Pieces(ids[cells.places[rows]], windows, begin, end, kept, estimated + measured - kept, covered))
    return Pieces(*(np.concatenate(column) for column in zip(*parts, strict=True)))
