"""Reading batches of wire version 1: what agents of release 0.1 send, and what stores hold from then. No Django.

Called by the wire only. Readings there are differences within each series, as little-endian int64 whose bytes are laid
out plane by plane, compressed by zstd; `mask` has one bit a cell (the first lowest), set where a reading is present.
"""

import sys
from array import array
from collections.abc import Container, Iterator
from itertools import accumulate
from typing import Any

import msgpack
import zstandard

from telemetry import catalog
from telemetry.codec import MAX_CELLS, BlockInvalid
from telemetry.fields import HOST_NAME, MessageInvalid, rows, text
from telemetry.header import Absent, reason_of

_WIDTH = 8
_FIELDS = {"v", "host", "epoch", "seq", "times_ms", "mask", "body"}
_MAX_FIELDS = 32


def host_of(payload: object) -> str:
    """Return the host that a batch names which came without an envelope, as release 0.1 sent them; "" where it is none.

    Nothing but the names of its fields and the host is unpacked: nobody has signed it.
    """
    if not isinstance(payload, bytes):
        return ""
    reader = msgpack.Unpacker(max_buffer_size=len(payload), max_str_len=64, max_array_len=0, max_map_len=_MAX_FIELDS)
    reader.feed(payload)
    names: set[object] = set()
    host: object = ""
    try:
        for _ in range(min(reader.read_map_header(), _MAX_FIELDS)):
            name = reader.unpack()
            names.add(name)
            if name == "host":
                host = reader.unpack()
            else:
                reader.skip()
    except (ValueError, TypeError, msgpack.UnpackException):  # TypeError: a list stands as a map's key
        return ""
    return host if names >= _FIELDS and isinstance(host, str) and HOST_NAME.fullmatch(host) else ""


def columns(
    message: dict[str, Any], wanted: Container[str], n_devices: int, n_ticks: int
) -> dict[str, list[list[int | None]]]:
    """Return the readings in steps of the metrics' resolution, by metric and device. Raises BlockInvalid, MessageInvalid."""
    mask, body = message.get("mask"), message.get("body")
    if not isinstance(mask, bytes) or not isinstance(body, bytes):
        raise MessageInvalid("mask, body: expected bytes")
    names = [text(value, "metrics") for value in rows(message, "metrics", 1000)]
    starts = {
        name: number * n_devices for number, name in enumerate(names) if name in wanted and name in catalog.BY_NAME
    }
    positions = {start + device for start in starts.values() for device in range(n_devices)}
    series = decode(mask, body, n_series=len(names) * n_devices, n_ticks=n_ticks, wanted=positions)
    return {name: [series[start + device] for device in range(n_devices)] for name, start in starts.items()}


def absent(raw: dict[Any, Any], uuids: Container[str]) -> Absent:
    return {
        uuid: {metric: reason_of(reason) for metric, reason in reasons.items() if metric in catalog.BY_NAME}
        for uuid, reasons in raw.items()
        if uuid in uuids and isinstance(reasons, dict)
    }


def decode(
    mask: bytes, body: bytes, *, n_series: int, n_ticks: int, wanted: Container[int]
) -> dict[int, list[int | None]]:
    """Return the wanted series by position, each `(n_ticks,)`. Raises BlockInvalid where the bytes do not fit."""
    cells = n_series * n_ticks
    if cells > MAX_CELLS or len(mask) != (cells + 7) // 8:
        raise BlockInvalid(f"{len(mask)} mask bytes do not fit {n_series} series of {n_ticks} ticks")
    bits = int.from_bytes(mask, "little")
    if bits >> cells:
        raise BlockInvalid("the mask has bits beyond the last cell")
    differences = _unshuffle(_decompress(body, bits.bit_count() * _WIDTH))
    marks = f"{bits:0{cells}b}"[::-1]
    start, series = 0, {}
    for position in range(n_series):
        present = marks[position * n_ticks : (position + 1) * n_ticks]
        stop = start + present.count("1")
        if position in wanted:
            series[position] = _placed(accumulate(differences[start:stop]), present)
        start = stop
    return series


def _placed(values: Iterator[int], present: str) -> list[int | None]:
    return [next(values) if mark == "1" else None for mark in present]


def _decompress(body: bytes, size: int) -> bytes:
    try:
        # The stated size is checked before anything is allocated for it.
        stated = zstandard.get_frame_parameters(body).content_size
        if stated != size:
            raise BlockInvalid(f"body holds {stated} bytes, the mask promises {size}")
        return zstandard.ZstdDecompressor().decompress(body)
    except zstandard.ZstdError as error:
        raise BlockInvalid(f"body cannot be decompressed: {error}") from error


def _unshuffle(raw: bytes) -> "array[int]":
    interleaved = bytearray(len(raw))
    n = len(raw) // _WIDTH
    for plane in range(_WIDTH):
        interleaved[plane::_WIDTH] = raw[plane * n : (plane + 1) * n]
    values = array("q", bytes(interleaved))
    if sys.byteorder == "big":
        values.byteswap()
    return values
