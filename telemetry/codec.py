"""Columns of samples ↔ bytes: integers of the metric's resolution, delta per series, byte shuffle, zstd. Lossless.

The agent encodes, the store decodes. No Django, no numpy (the agent does without).

A block holds `n_metrics × n_devices × n_ticks` cells in that order. `mask` has one bit a cell (first cell = lowest
bit), set where a reading is present; `body` holds the present cells' integers, each series (metric, device) as
differences from its previous present cell, as little-endian int64 whose bytes are laid out plane by plane.
"""

import sys
from array import array
from collections.abc import Container, Iterator, Sequence
from itertools import accumulate

import zstandard

_WIDTH = 8
_LEVEL = 3
MAX_CELLS = 2_000_000  # bounds what a foreign message can make the server allocate

_compressor = zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True)

Series = Sequence[int | None]


class BlockInvalid(ValueError):
    """The bytes are not a block of the stated shape."""


def encode(series: Sequence[Series]) -> tuple[bytes, bytes]:
    """Return (mask, body) of the series, each `(n_ticks,)` integers or None where absent."""
    mask, bit, deltas = 0, 1, array("q")
    for values in series:
        previous = 0
        for value in values:
            if value is not None:
                mask |= bit
                deltas.append(value - previous)
                previous = value
            bit <<= 1
    cells = sum(len(values) for values in series)
    return mask.to_bytes((cells + 7) // 8, "little"), _compressor.compress(_shuffle(deltas))


def decode(
    mask: bytes, body: bytes, *, n_series: int, n_ticks: int, wanted: Container[int] | None = None
) -> dict[int, list[int | None]]:
    """Return the series by position, each `(n_ticks,)`; with `wanted` only those positions.

    Raises BlockInvalid where the bytes do not fit the shape.
    """
    cells = n_series * n_ticks
    if cells > MAX_CELLS or len(mask) != (cells + 7) // 8:
        raise BlockInvalid(f"{len(mask)} mask bytes do not fit {n_series} series of {n_ticks} ticks")
    bits = int.from_bytes(mask, "little")
    if bits >> cells:
        raise BlockInvalid("the mask has bits beyond the last cell")
    deltas = _unshuffle(_decompress(body, bits.bit_count() * _WIDTH))
    one_series, start, series = (1 << n_ticks) - 1, 0, {}
    for position in range(n_series):
        present = bits & one_series
        bits >>= n_ticks
        stop = start + present.bit_count()
        if wanted is None or position in wanted:
            series[position] = _placed(accumulate(deltas[start:stop]), present, n_ticks)
        start = stop
    return series


def _placed(values: Iterator[int], present: int, n_ticks: int) -> list[int | None]:
    if present.bit_count() == n_ticks:
        return list(values)
    return [next(values) if present >> tick & 1 else None for tick in range(n_ticks)]


def _decompress(body: bytes, size: int) -> bytes:
    try:
        # The stated size is checked before anything is allocated for it.
        stated = zstandard.get_frame_parameters(body).content_size
        if stated != size:
            raise BlockInvalid(f"body holds {stated} bytes, the mask promises {size}")
        return zstandard.ZstdDecompressor().decompress(body)
    except zstandard.ZstdError as error:
        raise BlockInvalid(f"body cannot be decompressed: {error}") from error


def _shuffle(values: "array[int]") -> bytes:
    if sys.byteorder == "big":
        values.byteswap()
    raw = values.tobytes()
    return b"".join(raw[plane::_WIDTH] for plane in range(_WIDTH))


def _unshuffle(raw: bytes) -> "array[int]":
    interleaved = bytearray(len(raw))
    n = len(raw) // _WIDTH
    for plane in range(_WIDTH):
        interleaved[plane::_WIDTH] = raw[plane * n : (plane + 1) * n]
    values = array("q", bytes(interleaved))
    if sys.byteorder == "big":
        values.byteswap()
    return values
