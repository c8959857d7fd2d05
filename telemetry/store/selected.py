"""The wanted series of many stored batches at once: what is alike in them is taken apart once, nothing else is decoded.

Called by the reading of samples. The bytes were checked when they were accepted (received.py, matrix.py have the checks);
where they are of another version, or do not fit, `Unlike` sends the caller to the careful way.
"""

import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import msgpack
import numpy as np
import zstandard
from numpy.typing import NDArray

from telemetry.decoding.matrix import Steps
from telemetry.message import wire
from telemetry.message.codec import BLOCK_HEAD
from telemetry.message.frames import Decompressor
from telemetry.message.header import read_uuid
from telemetry.store.gather import Clock, Gathering

_decompressor = Decompressor()

Indices = NDArray[np.int64]


class Unlike(Exception):
    """These batches are to be read one by one."""


class _Layout(NamedTuple):
    """Which series a block holds, by metric number and place of the device, in the order of its rows."""

    numbers: tuple[int, ...]
    places: tuple[int, ...]


class _Form(NamedTuple):
    """What blocks have in common whose readings are taken apart together."""

    devices: tuple[str, ...]
    layout: _Layout
    n_ticks: int
    first_bytes: int
    difference_bytes: int


class _Blocks(NamedTuple):
    payloads: list[bytes]
    ticks: list[Indices]  # on the gathering's axis


class _Message(NamedTuple):
    clock: Clock
    seconds: float
    times_ms: list[int]
    # Of each the ticks of the batch that it has readings at, and their bytes.
    blocks: list[tuple[_Form, Indices, bytes]]


def add(gathering: Gathering, bodies: Sequence[bytes]) -> None:
    """Add the batches to the gathering. Raises Unlike, with nothing added."""
    try:
        messages = [_message(body) for body in bodies]
    except (ValueError, KeyError, TypeError, struct.error, zstandard.ZstdError) as error:
        raise Unlike from error
    _check_apart(messages)
    rows: dict[tuple[tuple[str, ...], _Layout], Indices] = {}
    found: dict[_Form, _Blocks] = {}
    for message in messages:
        wanted = []
        for form, ticks, payload in message.blocks:
            key = (form.devices, form.layout)
            if key not in rows:
                rows[key] = gathering.rows(form.devices, form.layout.places, form.layout.numbers)
            if (rows[key] >= 0).any():
                wanted.append((form, ticks, payload))
        if not wanted:
            continue
        first = gathering.add_ticks(np.array(message.times_ms, np.int64), message.clock, message.seconds)
        for form, ticks, payload in wanted:
            blocks = found.setdefault(form, _Blocks([], []))
            blocks.payloads.append(payload)
            blocks.ticks.append(first + ticks)
    for form, blocks in found.items():
        _decode(gathering, rows[form.devices, form.layout], form, blocks)


def _message(body: bytes) -> _Message:
    message = msgpack.unpackb(body)
    if message["v"] != wire.VERSION:
        raise Unlike
    head = msgpack.unpackb(_decompressor.decompress(message["head"]))
    times = list(accumulate(head["times"]))
    blocks = list(_blocks(_uuids(head["devices"]), _decompressor.decompress(message["body"]), len(times)))
    return _Message(Clock(head["epoch"].hex(), head["segment"]), head["every"], times, blocks)


def _check_apart(messages: Sequence[_Message]) -> None:
    """Where two batches lie over each other, the later one holds, and their order counts."""
    spans = sorted((each.clock, each.times_ms[0], each.times_ms[-1]) for each in messages)
    if any(one[0] == other[0] and other[1] <= one[2] for one, other in pairwise(spans)):
        raise Unlike


@lru_cache(maxsize=256)
def _uuids(devices: bytes) -> tuple[str, ...]:
    rows: list[Any] = msgpack.unpackb(devices)["devices"]
    return tuple(str(read_uuid(row[0])) for row in rows)


def _blocks(devices: tuple[str, ...], raw: bytes, n_ticks: int) -> Iterator[tuple[_Form, Indices, bytes]]:
    at, mask_bytes = 0, (len(devices) + 7) // 8
    while at < len(raw):
        n_present, n_metrics, first_bytes, difference_bytes = BLOCK_HEAD.unpack_from(raw, at)
        at += BLOCK_HEAD.size
        ticks = np.arange(n_ticks)
        if n_present != n_ticks:
            n_bits = (n_ticks + 7) // 8
            ticks = np.flatnonzero(np.unpackbits(np.frombuffer(raw, np.uint8, n_bits, at), bitorder="little"))
            at += n_bits
        n_layout = n_metrics * (2 + mask_bytes)
        layout = _layout(raw[at : at + n_layout], n_metrics, len(devices))
        at += n_layout
        n_payload = len(layout.numbers) * (first_bytes + difference_bytes * (n_present - 1))
        if at + n_payload > len(raw):
            raise Unlike
        yield _Form(devices, layout, n_present, first_bytes, difference_bytes), ticks, raw[at : at + n_payload]
        at += n_payload


@lru_cache(maxsize=1024)
def _layout(raw: bytes, n_metrics: int, n_devices: int) -> _Layout:
    metrics = np.frombuffer(raw, "<u2", n_metrics).astype(np.int64)
    masks = np.frombuffer(raw, np.uint8, offset=2 * n_metrics).reshape(n_metrics, -1)
    rows, places = np.nonzero(np.unpackbits(masks, axis=1, bitorder="little")[:, :n_devices])
    return _Layout(tuple(metrics[rows].tolist()), tuple(places.tolist()))


def _decode(gathering: Gathering, rows: Indices, form: _Form, blocks: _Blocks) -> None:
    """Take the wanted rows of all blocks of one form apart, `(n_blocks, n_wanted, n_ticks)` at once."""
    wanted = np.flatnonzero(rows >= 0)
    n_blocks, n_series = len(blocks.payloads), rows.size
    raw = np.frombuffer(b"".join(blocks.payloads), np.uint8).reshape(n_blocks, -1)
    n_first = form.first_bytes * n_series
    firsts = _integers(raw[:, :n_first].reshape(n_blocks, form.first_bytes, n_series))
    shape = (n_blocks, form.difference_bytes, n_series, form.n_ticks - 1)
    steps = np.empty((n_blocks, wanted.size, form.n_ticks), np.int64)
    steps[:, :, 0] = _summed_by_metric(firsts, np.array(form.layout.numbers))[:, wanted]
    steps[:, :, 1:] = _integers(raw[:, n_first:].reshape(shape)[:, :, wanted])
    by_series = steps.cumsum(axis=2).transpose(1, 0, 2).reshape(wanted.size, -1)
    gathering.add_block(rows[wanted], np.concatenate(blocks.ticks), by_series)


def _integers(planes: NDArray[np.uint8]) -> Steps:
    """Return zigzag integers whose bytes lie along axis 1, the lowest first; none there are zeros."""
    coded = np.zeros((planes.shape[0], *planes.shape[2:]), np.uint64)
    for place in range(planes.shape[1]):
        coded |= planes[:, place].astype(np.uint64) << np.uint64(8 * place)
    found: Steps = (coded >> np.uint64(1)).view(np.int64) ^ -(coded & np.uint64(1)).view(np.int64)
    return found


def _summed_by_metric(differences: Steps, numbers: Indices) -> Steps:
    """Return the running sums along axis 1, which begin anew with each metric's first series."""
    sums = differences.cumsum(axis=1)
    begins = np.flatnonzero(np.diff(numbers, prepend=-1))
    before = sums[:, begins] - differences[:, begins]
    return sums - np.repeat(before, np.diff(begins, append=numbers.size), axis=1)
