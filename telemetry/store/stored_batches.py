"""Batches as they came, read many at a time: kept in memory while they are few, else read anew each time. No writing.

Called by the compaction and the reading. A batch that cannot be read is reported and left out.
"""

import logging
from collections.abc import Collection, Hashable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from telemetry.decoding import received
from telemetry.decoding.matrix import Part
from telemetry.message.batch import Batch
from telemetry.message.fields import MessageInvalid
from telemetry.models import StoredBatch
from telemetry.store import selected
from telemetry.store.gather import Clock, Gathering

logger = logging.getLogger(__name__)

Read = tuple[Batch, list[Part]]


class StoredBatches:
    """Iterates (batch, parts) of the rows. `cells[row]` counts its readings by device uuid, None where it is unreadable.

    `numbers` are each device's metrics, `n_ticks` the ticks of all rows together, each once.
    """

    def __init__(self, rows: Sequence[StoredBatch], *, keep_cells: int) -> None:
        self.rows = rows
        self.cells: list[dict[str, int] | None] = []
        self.numbers: dict[str, set[int]] = {}
        self._kept: list[Read] | None = []
        n_kept, first, last = 0, [], []
        times: dict[Clock, list[NDArray[np.int64]]] = {}
        seen: set[Hashable] = set()
        for row in rows:
            found = read(row)
            self.cells.append(None if found is None else _cells(*found))
            if found is None:
                continue
            first.append(found[0].times_ms[0])
            last.append(found[0].times_ms[-1])
            times.setdefault(Clock(found[0].epoch, found[0].segment), []).append(np.array(found[0].times_ms))
            self._note_series(*found, seen)
            n_kept += sum(part.steps.size for part in found[1])
            if n_kept > keep_cells:
                self._kept = None
            if self._kept is not None:
                self._kept.append(found)
        self.span_ms = (min(first, default=0), max(last, default=0))
        self.n_ticks = sum(np.unique(np.concatenate(each)).size for each in times.values())

    def _note_series(self, batch: Batch, parts: Sequence[Part], seen: set[Hashable]) -> None:
        """Batches of one host have the same series again and again: they are named once."""
        uuids = tuple(device.uuid for device in batch.devices)
        for part in parts:
            key = (uuids, part.numbers.tobytes(), part.places.tobytes())
            if key in seen:
                continue
            seen.add(key)
            for place, number in zip(part.places.tolist(), part.numbers.tolist(), strict=True):
                self.numbers.setdefault(uuids[place], set()).add(number)

    @property
    def uuids(self) -> set[str]:
        return {uuid for cells in self.cells if cells for uuid in cells}

    def __iter__(self) -> Iterator[Read]:
        if self._kept is not None:
            yield from self._kept
            return
        for row, cells in zip(self.rows, self.cells, strict=True):
            found = read(row) if cells is not None else None
            if found is not None:
                yield found

    def groups(self, uuids: Collection[str], max_cells: int) -> Iterator[list[str]]:
        """Yield the devices in groups whose matrix (gather.py) has at most so many cells; at least one device in each.

        The matrix has a cell for each series and tick, also where nothing was read.
        """
        sizes = {uuid: len(self.numbers.get(uuid, ())) * self.n_ticks for uuid in sorted(uuids)}
        group: list[str] = []
        total = 0
        for uuid, size in sizes.items():
            if group and total + size > max_cells:
                yield group
                group, total = [], 0
            group.append(uuid)
            total += size
        if group:
            yield group


def read(row: StoredBatch) -> Read | None:
    """Return what the row holds, None with a warning where it cannot be read."""
    try:
        return received.read(bytes(row.body))
    except MessageInvalid as error:
        logger.warning(
            "batch %d of %s of host %d, from %d ms on, cannot be read: %s",
            row.sequence, row.epoch, row.host_id, row.start_ms, error,
        )  # fmt: skip
        return None


def add(gathering: Gathering, rows: Sequence[StoredBatch]) -> list[StoredBatch]:
    """Add the batches of one host, in order, to the gathering: together where they are alike, which is many times faster.

    Returns those that cannot be read.
    """
    unread = []
    try:
        selected.add(gathering, [bytes(row.body) for row in rows])
    except selected.Unlike:
        for row in rows:
            if (found := read(row)) is not None:
                gathering.add_batch(*found)
            else:
                unread.append(row)
    return unread


def _cells(batch: Batch, parts: Sequence[Part]) -> dict[str, int]:
    counts = np.zeros(len(batch.devices), np.int64)
    for part in parts:
        counts += part.ticks.size * np.bincount(part.places, minlength=counts.size)
    return {device.uuid: n for device, n in zip(batch.devices, counts.tolist(), strict=True) if n}
