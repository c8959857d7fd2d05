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
from collections.abc import Iterable, Sequence
from itertools import chain
from operator import sub
from typing import Any

from telemetry.frames import Compressor

MAX_CELLS = 2_000_000  # bounds what a foreign message can make the server allocate
_LEVEL = 3  # higher ones find a hundredth more, in twice the time
BLOCK_HEAD = struct.Struct("<HHBB")  # ticks, metrics, bytes of a first reading, bytes of a difference
WIDTHS = {1: "B", 2: "H", 4: "I", 8: "Q"}

# Without the frame's checksum: the envelope's signature covers it all.
_compressor = Compressor(_LEVEL)

Series = Sequence[int | None]
Row = tuple[int, int, Sequence[Any]]  # metric number, place of the device, readings without a gap


class BlockInvalid(ValueError):
    """The bytes are not a body of the stated shape."""


def encode(metrics: Iterable[tuple[int, Sequence[Series]]]) -> bytes:
    """Return the body of (metric number, readings by device) in ascending order of the numbers.

    Each device's readings are `(n_ticks,)` integers above -2**62 and below 2**62, None where absent.
    """
    return compress(blocks(metrics))


def compress(laid_out: bytes) -> bytes:
    """Return the body of these blocks, in which no series stands twice."""
    return _compressor.compress(laid_out)


def blocks(metrics: Iterable[tuple[int, Sequence[Series]]]) -> bytes:
    """Return the blocks, one after another, that make `encode`'s body."""
    whole: list[Row] = []
    parts: dict[tuple[int, ...], list[Row]] = {}
    n_devices = n_ticks = 0
    ticks: tuple[int, ...] = ()  # of the row before: most rows that lack some lack the same
    for number, by_device in metrics:
        n_devices = len(by_device)
        for place, readings in enumerate(by_device):
            if None not in readings:
                whole.append((number, place, readings))
                continue
            n_ticks = len(readings)
            n_present = n_ticks - readings.count(None)
            if not n_present:
                continue
            present = [readings[tick] for tick in ticks]
            if len(ticks) != n_present or None in present:
                ticks = tuple([tick for tick, value in enumerate(readings) if value is not None])
                present = [readings[tick] for tick in ticks]
            parts.setdefault(ticks, []).append((number, place, present))
    found = [_put_block(whole, b"", n_devices)] if whole else []
    found += [_put_block(series, _bits(ticks, n_ticks), n_devices) for ticks, series in parts.items()]
    return b"".join(found)


def _put_block(series: list[Row], tick_bits: bytes, n_devices: int) -> bytes:
    """All series end to end, so that the differences of all are taken in one go; those from one to the next are left out."""
    n_ticks = len(series[0][2])
    flat = list(chain.from_iterable([readings for _, _, readings in series]))
    differences = list(map(sub, flat[1:], flat))
    del differences[n_ticks - 1 :: n_ticks]
    starts = flat[::n_ticks]
    firsts = [starts[0], *map(sub, starts[1:], starts)]
    masks: dict[int, int] = {}
    for at, (number, place, _) in enumerate(series):
        if number in masks:
            masks[number] |= 1 << place
        else:
            masks[number] = 1 << place
            firsts[at] = starts[at]
    mask_bytes = (n_devices + 7) // 8
    first_bytes, first_planes = put_integers(firsts)
    difference_bytes, difference_planes = put_integers(differences)
    return b"".join(
        (
            BLOCK_HEAD.pack(n_ticks, len(masks), first_bytes, difference_bytes),
            tick_bits,
            _little(array("H", masks)),
            *[mask.to_bytes(mask_bytes, "little") for mask in masks.values()],
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
