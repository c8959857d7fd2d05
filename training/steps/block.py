"""Steps of one process on their way from the agent to the server: a block of columns, as msgpack bytes. No Django, no numpy.

Packed by the agent (host/steps.py), read by the server (blocks.py). A block goes into the cargo of a telemetry batch,
whose signature, name and acknowledgement are its own too. It is the map {"v", "head", "from", "n", "columns", "phases"}:
`head` the process's header as it wrote it; `from` [pid, user, group], the kernel's word; `columns` in the order of COLUMNS.
A column of integers is [width, planes] of its differences (telemetry/message/codec.py), one of numbers its float64, the lowest
bytes of all first, or a single one where all are the same.
"""

import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgpack

from telemetry.message import codec

VERSION = 1
TICK_NS = 100  # durations travel in tenths of a microsecond
UNTOLD = -1
COLUMNS = ("sequence", "dropped", "number", "ended_us", "ticks", "compute_ticks", "kind", "flags")
NUMBERS = ("samples", "tokens", "loss")


def pack(
    head: bytes,
    sender: Sequence[int | str],
    columns: Sequence[list[int]],
    numbers: Sequence[list[float]],
    phases: Sequence[list[int]],
) -> bytes:
    """Return the block of at least one step: COLUMNS, NUMBERS, and the header's phases in ticks, UNTOLD where not told."""
    message: dict[str, Any] = {
        "v": VERSION,
        "head": head,
        "from": list(sender),
        "n": len(columns[0]),
        "columns": [_integers(column) for column in columns],
        "numbers": [_floats(column) for column in numbers],
        "phases": [_integers(column) for column in phases],
    }
    return bytes(msgpack.packb(message))


def _integers(values: list[int]) -> list[Any]:
    return list(codec.put_integers([values[0], *[later - earlier for earlier, later in pairwise(values)]]))


def _floats(values: list[float]) -> bytes:
    raw = struct.pack(f"<{len(values)}d", *values)
    if raw == raw[:8] * len(values):
        return raw[:8]
    return b"".join(raw[plane::8] for plane in range(8))
