"""Buckets of a span from the rollups: at the resolution that fits, older ones from coarser rollups, the newest from finer.

Called by reading alone. A layer is what one resolution has of the span.
"""

from collections.abc import Callable, Collection, Mapping
from math import ceil
from typing import NamedTuple

import numpy as np

from telemetry.store import rolled
from telemetry.store.rolled import Table
from telemetry.store.statistics import Whole

# Without ten minutes: a quarter of an hour is read from rollups of its own, a fifteenth of the minutes.
STEPS_MS = [s * 1000 for s in (1, 2, 5, 10, 15, 30, 60, 120, 300, 900, 1800, 3600, 7200, 14_400, 43_200, 86_400)]
MINUTE_MS = 60_000
_COARSER = {60: 900, 900: 3600}
_FINER = {3600: 900, 900: 60}
_NEAR = 4  # buckets that an owner may lag behind the newest: whoever lags more is silent

Tables = Mapping[int, Table]
Read = Callable[[int, int, int], Tables]  # step_seconds, start_ms, end_ms → tables by owner
ReadSamples = Callable[[int, int], Tables]  # start_ms, end_ms → minutes by owner


class Grid(NamedTuple):
    """`n` buckets of `step_ms` from `first_ms` on."""

    first_ms: int
    step_ms: int
    n: int

    @property
    def end_ms(self) -> int:
        return self.first_ms + self.n * self.step_ms

    @property
    def times_ms(self) -> Whole:
        return self.first_ms + self.step_ms * np.arange(self.n, dtype=np.int64)


def grid(start_ms: int, end_ms: int, step_ms: int) -> Grid:
    first = start_ms // step_ms * step_ms
    return Grid(first, step_ms, max(1, ceil((end_ms - first) / step_ms)))


def step_ms(start_ms: int, end_ms: int, points: int, minimum_ms: int) -> int:
    """Return the shortest round step that covers the range in at most `points − 1` steps."""
    wanted = max((end_ms - start_ms) / max(points - 1, 1), minimum_ms)
    return next((step for step in STEPS_MS if step >= wanted), ceil(wanted / 86_400_000) * 86_400_000)


def level_of(step_milliseconds: int) -> int:
    """Return the coarsest resolution that buckets of this length are made of, in seconds."""
    return max(level for level in rolled.STEPS if step_milliseconds % (1000 * level) == 0)


class Layered(NamedTuple):
    """What was found: by owner the tables of all resolutions, in order of time, and the grid that fits them."""

    grid: Grid
    tables: dict[int, list[Table]]


def layered(start_ms: int, end_ms: int, step: int, read: Read, read_samples: ReadSamples | None) -> Layered:
    """Return the rollups for buckets of `step` ms, a multiple of a minute: of coarser buckets where finer ones are retired."""
    level = level_of(step)
    while True:
        on = grid(start_ms, end_ms, step)
        found = read(level, on.first_ms, end_ms)
        coarser = _COARSER.get(level)
        if coarser and _is_retired(found, coarser, on.first_ms, end_ms, read):
            level, step = coarser, max(step, 1000 * coarser)
            continue
        layers = {owner: [table] for owner, table in found.items()}
        _add_newest(layers, level, on.first_ms, end_ms, read, read_samples)
        return Layered(on, layers)


def _is_retired(found: Tables, coarser: int, first_ms: int, end_ms: int, read: Read) -> bool:
    """Tell whether any owner has a coarser bucket before the first that was found of it. Imported hosts keep all of theirs.

    One that holds nothing any more does not count: it stands for what was told elsewhere since.
    """
    coarser_ms = 1000 * coarser
    begins = {owner: int(table.starts_ms[0]) for owner, table in found.items()}
    latest = max(begins.values(), default=end_ms + coarser_ms)
    if latest - coarser_ms < first_ms:
        return False
    older = read(coarser, first_ms, latest - coarser_ms + 1)
    filled = {owner: table.starts_ms[table.values.any(axis=0)] for owner, table in older.items()}
    return any(starts.size and starts[0] + coarser_ms <= begins.get(owner, latest) for owner, starts in filled.items())


def _add_newest(
    layers: dict[int, list[Table]], level: int, first_ms: int, end_ms: int, read: Read, read_samples: ReadSamples | None
) -> None:
    """Add what the finer resolutions have of the time that this one does not reach to yet, of each owner from its own end."""
    while (from_ms := _unmade_from(layers, 1000 * level, first_ms)) < end_ms:
        finer = _FINER.get(level)
        if finer is None and read_samples is None:
            return
        found = read(finer, from_ms, end_ms) if finer else read_samples(from_ms, end_ms) if read_samples else {}
        for owner, table in found.items():
            mine = layers.setdefault(owner, [])
            rest = table.between(_end_ms(mine[-1]), end_ms) if mine else table
            if rest.starts_ms.size:
                mine.append(rest)
        if finer is None:
            return
        level = finer


def _unmade_from(layers: Mapping[int, list[Table]], step: int, first_ms: int) -> int:
    """Return where the first owner ends of those that reach near the newest end; of nothing the beginning."""
    ends = [_end_ms(tables[-1]) for tables in layers.values() if tables]
    newest = max(ends, default=first_ms)
    return min((end for end in ends if end >= newest - _NEAR * step), default=first_ms)


def _end_ms(table: Table) -> int:
    return int(table.starts_ms[-1]) + table.step_ms


def on_one_axis(tables: Collection[Table]) -> tuple[Table, Whole]:
    """Return layers one after another as one table, and how long each bucket is, `(n,)` ms."""
    keys, rows = rolled.union([table.keys for table in tables])
    values = []
    for table, at in zip(tables, rows, strict=True):
        part = table.values
        if at is not None:
            part = np.zeros((keys.numbers.size, table.starts_ms.size), np.int64)
            part[at] = table.values
        values.append(part)
    lengths = np.concatenate([np.full(table.starts_ms.size, table.step_ms) for table in tables])
    starts = np.concatenate([table.starts_ms for table in tables])
    return Table(keys, MINUTE_MS, starts, np.concatenate(values, axis=1)), lengths
