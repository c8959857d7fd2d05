"""Samples of one host from batches and chunks, brought together: each once, in order. Called by compaction and reading.

Knows no database. What is added later holds where two say different things of the same device, metric, clock and time.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from telemetry.decoding.matrix import Part, Steps
from telemetry.message.batch import Batch
from telemetry.store.chunks import HOUR_MS, DeviceHour, Series, Stretch
from telemetry.store.spans import Spans, inside

Indices = NDArray[np.int64]


class Clock(NamedTuple):
    """What a time was read on: an agent's start, and every step of its wall clock, begins another."""

    epoch: str
    segment: int


class _Block(NamedTuple):
    """Readings `steps (n_rows, n_ticks)` of these rows of the matrix, at these ticks of the axis as it was gathered."""

    rows: Indices
    ticks: Indices
    steps: Steps


class Gathered(NamedTuple):
    """All ticks, each once, by clock and time, and what was read at them.

    `times_ms`, `clocks` and `seconds` (the sampling interval) are `(n_ticks,)`, `steps` and `present` `(n_series, n_ticks)`;
    `series` names the rows by (device uuid, metric number), `names` the clocks, ascending.
    """

    names: list[Clock]
    times_ms: Indices
    clocks: Indices
    seconds: NDArray[np.float64]
    series: list[tuple[str, int]]
    steps: Steps
    present: NDArray[np.bool_]

    def between(self, start_ms: int, end_ms: int) -> "Gathered":
        """Return what was read at start ≤ time < end, without series that have nothing there."""
        inside = (self.times_ms >= start_ms) & (self.times_ms < end_ms)
        rows: NDArray[np.bool_] = np.any(self.present[:, inside], axis=1)
        return Gathered(
            self.names, self.times_ms[inside], self.clocks[inside], self.seconds[inside],
            [series for series, is_there in zip(self.series, rows.tolist(), strict=True) if is_there],
            self.steps[rows][:, inside], self.present[rows][:, inside],
        )  # fmt: skip

    def of_stays(self, spans: Mapping[str, Spans]) -> "Gathered":
        """Return it without what was read of these devices, by uuid, outside of their spans."""
        if not spans:
            return self
        present = self.present.copy()
        for uuid, of_device in spans.items():
            rows = np.array([row for row, (own, _) in enumerate(self.series) if own == uuid], np.int64)
            present[np.ix_(rows, ~inside(of_device, self.times_ms))] = False
        return self._replace(present=present)


class Gathering:
    """Takes batches and hours in any order; `uuids` and `numbers` are what is wanted of them, None is all."""

    def __init__(self, uuids: Collection[str] | None = None, numbers: Collection[int] | None = None) -> None:
        self._uuids, self._numbers = uuids, numbers
        self._clocks: dict[Clock, int] = {}
        self._rows: dict[tuple[str, int], int] = {}
        self._known: dict[tuple[tuple[str, ...], bytes, bytes], Indices] = {}
        self._times: list[Indices] = []
        self._of_clock: list[Indices] = []
        self._seconds: list[NDArray[np.float64]] = []
        self._blocks: list[_Block] = []
        self._n_ticks = 0

    def add_batch(self, batch: Batch, parts: Collection[Part]) -> None:
        uuids = tuple(device.uuid for device in batch.devices)
        found = [(self._rows_of(uuids, part), part) for part in parts]
        if not any((rows >= 0).any() for rows, _ in found):
            return
        first = self.add_ticks(
            np.array(batch.times_ms, np.int64), Clock(batch.epoch, batch.segment), batch.sample_seconds
        )
        for rows, part in found:
            wanted = rows >= 0
            steps = part.steps if wanted.all() else part.steps[wanted]
            self.add_block(rows[wanted], part.ticks + first, steps)

    def add_hour(self, uuid: str, hour: DeviceHour) -> None:
        every = np.arange(hour.times_ms.size)
        whole: list[tuple[int, Steps]] = []
        first = self._n_ticks
        for number, series in hour.series.items():
            row = self._row(uuid, number)
            if row < 0:
                continue
            if series.ticks is None:
                whole.append((row, series.steps))
            else:
                self.add_block(np.array([row]), first + series.ticks, series.steps[None, :])
        if whole:
            rows = np.array([row for row, _ in whole])
            self.add_block(rows, first + every, np.stack([steps for _, steps in whole]))
        at = 0
        for stretch in hour.stretches:
            times = hour.times_ms[at : at + stretch.n_ticks]
            self.add_ticks(times, Clock(stretch.epoch, stretch.segment), stretch.sample_seconds)
            at += stretch.n_ticks

    def add_ticks(self, times_ms: Indices, clock: Clock, seconds: float | NDArray[np.float64]) -> int:
        """Put `(n,)` ticks on the axis, read at one interval or each at its own; returns the place of the first."""
        first = self._n_ticks
        self._times.append(times_ms)
        self._of_clock.append(np.full(times_ms.size, self._clocks.setdefault(clock, len(self._clocks)), np.int64))
        self._seconds.append(np.full(times_ms.size, seconds))
        self._n_ticks += times_ms.size
        return first

    def add_block(self, rows: Indices, ticks: Indices, steps: Steps) -> None:
        """Put readings `(n_rows, n_ticks)` at these rows of the matrix and places of the axis."""
        self._blocks.append(_Block(rows, ticks, steps))

    def add_gathered(self, found: Gathered) -> None:
        """Add what was gathered elsewhere."""
        for place, clock in enumerate(found.names):
            ticks = np.flatnonzero(found.clocks == place)
            first = self.add_ticks(found.times_ms[ticks], clock, found.seconds[ticks])
            for row, (uuid, number) in enumerate(found.series):
                there = np.flatnonzero(found.present[row, ticks])
                if there.size and (own := self._row(uuid, number)) >= 0:
                    self.add_block(np.array([own]), first + there, found.steps[row, ticks[there]][None, :])

    def _rows_of(self, uuids: tuple[str, ...], part: Part) -> Indices:
        """Return each series' row, -1 where it is not wanted. Batches of one host have the same series again and again."""
        key = (uuids, part.numbers.tobytes(), part.places.tobytes())
        if (rows := self._known.get(key)) is None:
            rows = self._known[key] = self.rows(uuids, part.places.tolist(), part.numbers.tolist())
        return rows

    def rows(self, uuids: Sequence[str], places: Iterable[int], numbers: Iterable[int]) -> Indices:
        """Return the rows of series, named by their devices' places and metrics, -1 where one is not wanted."""
        named = zip(places, numbers, strict=True)
        return np.array([self._row(uuids[place], number) for place, number in named], np.int64)

    def _row(self, uuid: str, number: int) -> int:
        if (self._uuids is not None and uuid not in self._uuids) or (
            self._numbers is not None and number not in self._numbers
        ):
            return -1
        return self._rows.setdefault((uuid, number), len(self._rows))

    def gathered(self) -> Gathered:
        """Return all of it; the memory it takes is 9 bytes a series and tick."""
        names = sorted(self._clocks)
        rank = np.array([names.index(clock) for clock in self._clocks], np.int64)
        times, clocks = _joined(self._times), rank[_joined(self._of_clock)]
        order = np.lexsort((times, clocks))
        begins = np.ones(times.size, np.bool_)
        begins[1:] = (np.diff(times[order]) != 0) | (np.diff(clocks[order]) != 0)
        place = np.empty(times.size, np.int64)
        place[order] = np.cumsum(begins) - 1
        n = int(begins.sum())
        seconds = np.empty(n)
        seconds[place] = np.concatenate([np.empty(0), *self._seconds])  # of those at one place the last holds
        steps = np.zeros((len(self._rows), n), np.int64)
        present = np.zeros(steps.shape, np.bool_)
        for rows, ticks, found in self._blocks:
            at = place[ticks]
            if (np.diff(at) == 1).all():  # as nearly always: a slice is written several times faster
                steps[rows, at[0] : at[-1] + 1] = found
                present[rows, at[0] : at[-1] + 1] = True
            else:
                steps[rows[:, None], at] = found
                present[rows[:, None], at] = True
        first = order[begins]
        return Gathered(names, times[first], clocks[first], seconds, list(self._rows), steps, present)


def _joined(parts: list[Indices]) -> Indices:
    return np.concatenate([np.empty(0, np.int64), *parts])


def hours(found: Gathered) -> Iterator[tuple[str, int, DeviceHour]]:
    """Yield (device uuid, the hour's beginning in ms, its samples) for every hour and device that has any."""
    by_device: dict[str, list[int]] = {}
    for row, (uuid, _) in enumerate(found.series):
        by_device.setdefault(uuid, []).append(row)
    of_hour = found.times_ms // HOUR_MS
    for hour in np.unique(of_hour).tolist():
        ticks = np.flatnonzero(of_hour == hour)
        for uuid, rows in by_device.items():
            made = _device_hour(found, np.array(rows), ticks)
            if made is not None:
                yield uuid, hour * HOUR_MS, made


def _device_hour(found: Gathered, rows: Indices, ticks: Indices) -> DeviceHour | None:
    present = found.present[rows[:, None], ticks]
    read = present.any(axis=0)
    if not read.any():
        return None
    if not read.all():
        ticks, present = ticks[read], present[:, read]
    order = _order(found, ticks)
    if order is not None:
        ticks, present = ticks[order], present[:, order]
    series = {}
    for row, there in zip(rows.tolist(), present, strict=True):
        if there.all():
            series[found.series[row][1]] = Series(None, found.steps[row, ticks])
        elif there.any():
            at = np.flatnonzero(there)
            series[found.series[row][1]] = Series(at, found.steps[row, ticks[at]])
    return DeviceHour(tuple(_stretches(found, ticks)), found.times_ms[ticks], series)


def _order(found: Gathered, ticks: Indices) -> Indices | None:
    """Return the order by clock, the earlier beginning first, and time; None where it is that already.

    So equal samples make equal chunks, however they came.
    """
    clocks = found.clocks[ticks]
    used = np.unique(clocks)
    if used.size == 1:
        return None
    begins = {clock: int(found.times_ms[ticks[clocks == clock]].min()) for clock in used.tolist()}
    ranked = sorted(begins, key=lambda clock: (begins[clock], found.names[clock]))
    rank = np.zeros(len(found.names), np.int64)
    rank[ranked] = range(len(ranked))
    return np.lexsort((found.times_ms[ticks], rank[clocks]))


def _stretches(found: Gathered, ticks: Indices) -> Iterator[Stretch]:
    clocks, seconds = found.clocks[ticks], found.seconds[ticks]
    begins = np.flatnonzero((np.diff(clocks, prepend=-1) != 0) | (np.diff(seconds, prepend=-1.0) != 0))
    for begin, n in zip(begins.tolist(), np.diff(begins, append=ticks.size).tolist(), strict=True):
        epoch, segment = found.names[int(clocks[begin])]
        yield Stretch(epoch, segment, float(seconds[begin]), n)
