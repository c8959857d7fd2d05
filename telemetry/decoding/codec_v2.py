"""Reading columns of samples of version 2: integers of the metric's resolution, in as few bits each as a metric needs.

What agents of the release before send, and what stores hold from then. Server side only; no Django.

A body is a row of blocks, one a metric, by ascending number. A block is the metric's number (varint), a byte of flags, the
bits of presence where the flags say so, and then the readings, device by device: as one run of integers (integers.py), or
as two, the devices' first readings and all differences from the reading before. So what is constant costs 4 bytes. A block
depends on an earlier one by its presence only: a reader skips what it does not want.
"""

from collections.abc import Container
from itertools import accumulate

from telemetry.decoding.integers import Reader
from telemetry.message.codec import MAX_CELLS, BlockInvalid

_WHOLE, _AS_BEFORE, _BY_DEVICE, _BY_CELL = range(4)  # presence: all there; as where it was last told; a bit for each
_DIFFERENCES = 0b100
_LIMIT = 2**63


def decode(
    body: bytes, *, n_devices: int, n_ticks: int, wanted: Container[int] | None = None
) -> dict[int, list[list[int | None]]]:
    """Return by metric number each device's readings, `(n_ticks,)`; with `wanted` only those metrics.

    Raises BlockInvalid where the bytes do not fit the shape.
    """
    reader, found = Reader(body), {}
    whole = _Presence([(1 << n_ticks) - 1] * n_devices)
    last_told, last_number, cells = whole, -1, 0
    while reader.at < len(body):
        number, flags = reader.varint(), reader.byte()
        cells += n_devices * n_ticks
        if number <= last_number or flags > (_DIFFERENCES | _BY_CELL) or cells > MAX_CELLS:
            raise BlockInvalid(f"block {number}: out of order, of unknown form, or more than {MAX_CELLS} cells in all")
        last_number, kind = number, flags & 0b11
        if kind >= _BY_DEVICE:
            last_told = _read_presence(reader, kind, n_devices, n_ticks)
        presence = whole if kind == _WHOLE else last_told
        lengths = (
            [presence.n_devices, presence.n_cells - presence.n_devices] if flags & _DIFFERENCES else [presence.n_cells]
        )
        if wanted is None or number in wanted:
            limits = (_LIMIT, 2 * _LIMIT)  # a difference may be larger than what it lies between
            runs = [reader.run(n, limit) for n, limit in zip(lengths, limits, strict=False)]
            found[number] = _placed(runs, presence, n_ticks)
        else:
            for n in lengths:
                reader.skip_run(n)
    return found


class _Presence:
    """Which readings are there: `masks` has a bit a tick (the first lowest) for each device."""

    def __init__(self, masks: list[int]) -> None:
        self.masks = masks
        self.counts = [mask.bit_count() for mask in masks]
        self.n_cells = sum(self.counts)
        self.n_devices = sum(count > 0 for count in self.counts)


def _read_presence(reader: Reader, kind: int, n_devices: int, n_ticks: int) -> _Presence:
    each = 1 if kind == _BY_DEVICE else n_ticks
    raw = reader.take((n_devices * each + 7) // 8)
    text = f"{int.from_bytes(raw, 'little'):0{n_devices * each}b}"
    if len(text) > n_devices * each:
        raise BlockInvalid("presence: bits beyond the last reading")
    starts = range(len(text) - each, -1, -each)
    masks = [int(text[start : start + each], 2) for start in starts]
    return _Presence([mask * ((1 << n_ticks) - 1) for mask in masks] if kind == _BY_DEVICE else masks)


def _placed(runs: list[list[int]], presence: _Presence, n_ticks: int) -> list[list[int | None]]:
    """Return each device's readings in their places."""
    series: list[list[int | None]] = []
    values, at = (runs[0] if len(runs) == 1 else _summed(runs, presence)), 0
    for mask, count in zip(presence.masks, presence.counts, strict=True):
        part = values[at : at + count]
        series.append([*part] if count == n_ticks else _with_gaps(part, mask, n_ticks))
        at += count
    return series


def _summed(runs: list[list[int]], presence: _Presence) -> list[int]:
    """Return the readings of all devices, one after another, from their first ones and the differences."""
    firsts, differences = runs
    values: list[int] = []
    at = 0
    for first, count in zip(firsts, filter(None, presence.counts), strict=True):
        values += accumulate(differences[at : at + count - 1], initial=first)
        at += count - 1
    if values and (min(values) <= -_LIMIT or max(values) >= _LIMIT):
        raise BlockInvalid("a reading is too large")
    return values


def _with_gaps(values: list[int], mask: int, n_ticks: int) -> list[int | None]:
    if not values:
        return [None] * n_ticks
    following = iter(values)
    return [next(following) if bit == "1" else None for bit in f"{mask:0{n_ticks}b}"[::-1]]
