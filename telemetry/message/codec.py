"""Columns of samples → bytes, version 3: differences along time, their bytes laid out plane by plane, compressed by zstd.

The agent encodes, the server decodes (matrix.py); nothing is lost. No Django, no numpy: the agent does without.

A body is one zstd frame of blocks. A block holds all series (one metric of one device) that have readings at the same
ticks, so that it is a full matrix: first the series' first readings, as differences to the series before it of the same
metric, then all differences to the reading before. Both are zigzag integers of 0, 1, 2, 4 or 8 bytes; the lowest bytes of
all come first, then the next ones: what hardly changes is zeros, and costs next to nothing.

A block is, one after another: BLOCK_HEAD; a bit for each tick of the batch (the first lowest), only where the block lacks
some; the metrics' numbers, uint16 ascending; for each metric a bit for each device; the planes of the first readings; the
planes of the differences. All integers are little-endian.
"""

import struct
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from operator import sub
from typing import Any, NamedTuple

from telemetry.message.frames import Compressor

MAX_CELLS = 2_000_000  # bounds what a foreign message can make the server allocate
_LEVEL = 3  # higher ones find a hundredth more, in twice the time
BLOCK_HEAD = struct.Struct("<HHBB")  # ticks, metrics, bytes of a first reading, bytes of a difference
WIDTHS = {1: "B", 2: "H", 4: "I", 8: "Q"}

# Without the frame's checksum: the envelope's signature covers it all.
_compressor = Compressor(_LEVEL)

Series = Sequence[int | None]
Ticks = tuple[int, ...]


class Row(NamedTuple):
    """A metric's readings of some devices, a bit for each in `devices`, at the same ticks: device after device.

    `ticks` ascend; None: all of the batch's.
    """

    number: int
    devices: int
    ticks: Ticks | None
    readings: Sequence[int]


class BlockInvalid(ValueError):
    """The bytes are not a body of the stated shape."""


def encode(metrics: Sequence[tuple[int, Sequence[Series]]]) -> bytes:
    """Return the body of (metric number, readings by device) in ascending order of the numbers.

    Each device's readings are `(n_ticks,)` integers above -2**62 and below 2**62, None where absent.
    """
    shapes = [(len(by_device), len(by_device[0])) for _, by_device in metrics] or [(0, 0)]
    return compress(blocks(chain.from_iterable(rows(*metric) for metric in metrics), *shapes[0]))


def compress(laid_out: bytes) -> bytes:
    """Return the body of these blocks, in which no series stands twice."""
    return _compressor.compress(laid_out)


def rows(number: int, by_device: Sequence[Series]) -> Iterator[Row]:
    """Yield the rows of one metric's readings by device: one for each set of ticks at which devices have any."""
    masks: dict[Ticks | None, int] = {}
    found: dict[Ticks | None, list[Any]] = {}
    for place, readings in enumerate(by_device):
        ticks, present = (None, readings) if None not in readings else _present(readings)
        if present:
            masks[ticks] = masks.get(ticks, 0) | 1 << place
            found.setdefault(ticks, []).append(present)
    for ticks, mask in masks.items():
        yield Row(number, mask, ticks, list(chain.from_iterable(found[ticks])))


def _present(readings: Series) -> tuple[Ticks, Series]:
    """Return at which ticks there are readings, and these."""
    if readings.count(None) == len(readings):
        return (), ()
    return (
        tuple([tick for tick, value in enumerate(readings) if value is not None]),
        [value for value in readings if value is not None],
    )


def blocks(all_rows: Iterable[Row], n_devices: int, n_ticks: int) -> bytes:
    """Return the blocks, one after another, that make `encode`'s body; rows come in ascending order of their numbers.

    No two of one number have the same ticks.
    """
    by_ticks: dict[Ticks | None, list[Row]] = {None: []}  # what is whole comes first
    for row in all_rows:
        if row.ticks in by_ticks:
            by_ticks[row.ticks].append(row)
        else:
            by_ticks[row.ticks] = [row]
    mask_bytes = (n_devices + 7) // 8
    return b"".join(
        [
            _put_block(together, b"", n_ticks, mask_bytes)
            if ticks is None
            else _put_block(together, _bits(ticks, n_ticks), len(ticks), mask_bytes)
            for ticks, together in by_ticks.items()
            if together
        ]
    )


def _put_block(together: list[Row], tick_bits: bytes, n_ticks: int, mask_bytes: int) -> bytes:
    """All series end to end, so that the differences of all are taken in one go; those from one to the next are left out."""
    flat = list(chain.from_iterable([row.readings for row in together]))
    differences = list(map(sub, flat[1:], flat))
    del differences[n_ticks - 1 :: n_ticks]
    starts = flat[::n_ticks]
    firsts = [starts[0], *map(sub, starts[1:], starts)]
    at = 0
    for row in together:
        firsts[at] = starts[at]
        at += row.devices.bit_count()
    first_bytes, first_planes = put_integers(firsts)
    difference_bytes, difference_planes = put_integers(differences)
    return b"".join(
        (
            BLOCK_HEAD.pack(n_ticks, len(together), first_bytes, difference_bytes),
            tick_bits,
            _little(array("H", [row.number for row in together])),
            *[row.devices.to_bytes(mask_bytes, "little") for row in together],
            first_planes,
            difference_planes,
        )
    )


def put_integers(values: list[int]) -> tuple[int, bytes]:
    """Return the bytes of each (0, 1, 2, 4, 8) and the planes of all: zigzag integers, above -2**62 and below 2**62."""
    if not any(values):
        return 0, b""
    coded = [value << 1 if value >= 0 else ~(value << 1) for value in values]
    most = max(coded)
    width = next(width for width in WIDTHS if most < 1 << 8 * width)
    raw = _little(array(WIDTHS[width], coded))
    return width, raw if width == 1 else b"".join(raw[plane::width] for plane in range(width))


def _bits(ticks: Sequence[int], n_ticks: int) -> bytes:
    return sum(1 << tick for tick in ticks).to_bytes((n_ticks + 7) // 8, "little")


def _little(numbers: "array[int]") -> bytes:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()
