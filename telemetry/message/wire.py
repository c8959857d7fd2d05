"""What a host's agent sends: batches of samples, as msgpack bytes with a version. No Django.

Written by the agent's batcher, read by the server (received.py), each inside a signed envelope (envelope.py).

A message is the map {"v", "head", "body"}: `head` is a zstd frame of a msgpack map, `body` holds the readings (codec.py).
Where the batch has a cargo, "cargo" is a zstd frame of the msgpack map {name: [bytes, …]}.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from operator import attrgetter
from typing import Any, NamedTuple

import msgpack

from telemetry import catalog
from telemetry.catalog import AbsentReason
from telemetry.message import codec, header
from telemetry.message.batch import (
    NO_PID,
    Batch,
    Cargo,
    DeviceEvent,
    DeviceInfo,
    DeviceKind,
    DeviceProcess,
    EventKind,
    Topology,
)
from telemetry.message.block import Block
from telemetry.message.fields import (
    HOST_NAME,
    MessageInvalid,
    integer,
    mapping,
    matching,
    number,
    read_message,
    text,
)
from telemetry.message.frames import Compressor, Decompressor
from telemetry.message.header import LATEST_MS, MAX_DEVICES, MAX_EVENTS, MAX_PROCESSES, UUID

__all__ = [
    "HOST_NAME", "INGEST_QUEUE", "INGEST_TASK", "LATEST_MS", "MAX_BYTES", "MAX_CARGO_BYTES", "MAX_DEVICES", "MAX_EVENTS",
    "MAX_PROCESSES", "MAX_SPAN_MS", "MAX_TICKS", "NO_PID", "UUID", "VERSION", "Batch", "Cargo", "DeviceEvent", "DeviceInfo",
    "DeviceKind", "DeviceProcess", "EventKind", "MessageInvalid", "Topology", "assemble", "host_queue", "integer", "lay_out",
    "mapping", "matching", "number", "pack", "read_message", "renamed", "text",
]  # fmt: skip

VERSION = 3
MAX_BYTES = 4_000_000
MAX_TICKS = 10_000
MAX_CARGO_BYTES = 1_000_000  # of a batch, before compression
MAX_SPAN_MS = 86_400_000  # what one message may make dirty
_HOSTS_KEPT = 4096
_number_of = attrgetter("number")
_INTEGERS = frozenset((int, type(None)))
_LEVEL = 9  # of a few hundred bytes: higher ones find no more, lower ones less
_CARGO_LEVEL = 3

INGEST_TASK = "telemetry.ingest_batch"
INGEST_QUEUE = "telemetry"

# Without the frame's checksum: the envelope's signature covers it all.
_compressor = Compressor(_LEVEL)
_cargo_compressor = Compressor(_CARGO_LEVEL)
_decompressor = Decompressor()


def host_queue(name: str) -> str:
    """Return the name of the queue on which a host's agent takes its orders."""
    return f"host.{name}"


def pack(batch: Batch) -> bytes:
    """Return the batch's bytes; readings become integers of their metric's resolution.

    Raises MessageInvalid where the server would refuse them for their length.
    """
    return assemble(batch, lay_out(batch.columns))


def lay_out(columns: Mapping[str, Sequence[Sequence[float | None]]]) -> bytes:
    """Return the blocks of these readings, by metric and device."""
    if not columns:
        return b""
    rows: list[codec.Row] = []
    for metric in sorted(filter(None, map(catalog.BY_NAME.get, columns)), key=_number_of):
        block = columns[metric.name]
        if type(block) is Block:
            for devices, ticks, steps in block.runs(metric.resolution):
                rows.append(codec.Row(metric.number, devices, ticks, steps))
        else:
            rows += codec.rows(metric.number, _steps(block, metric.resolution))
    block = next(iter(columns.values()))
    return codec.blocks(rows, len(block), block.n_ticks if type(block) is Block else len(block[0]))


def assemble(batch: Batch, laid_out: bytes) -> bytes:
    """Return the batch's bytes, its readings laid out already. Raises as `pack` does."""
    if len(batch.times_ms) > MAX_TICKS:
        raise MessageInvalid(f"times_ms: expected at most {MAX_TICKS} ticks, found {len(batch.times_ms)}")
    head = _compressor.compress(msgpack.packb(_head(batch)))
    message = {"v": VERSION, "head": head, "body": codec.compress(laid_out)}
    if batch.cargo:
        message["cargo"] = _cargo_compressor.compress(msgpack.packb(dict(batch.cargo)))
    return bytes(msgpack.packb(message))


def renamed(payload: bytes, epoch: str, sequence: int) -> bytes:
    """Return a packed batch under another name; nothing else of it changes. `payload` is of `pack`'s own making."""
    message = msgpack.unpackb(payload)
    head = msgpack.unpackb(_decompressor.decompress(message["head"]), strict_map_key=False)
    head |= {"epoch": bytes.fromhex(epoch), "seq": sequence}
    return bytes(msgpack.packb(message | {"head": _compressor.compress(msgpack.packb(head))}))


def _head(batch: Batch) -> dict[str, Any]:
    """Return the batch without its readings; what is empty is left out."""
    places = {device.uuid: place for place, device in enumerate(batch.devices)}
    times = batch.times_ms
    told = _told(batch, places)
    head: dict[str, Any] = {
        "host": batch.host,
        "epoch": bytes.fromhex(batch.epoch),
        "seq": batch.sequence,
        "segment": batch.segment,
        "sent": batch.sent_ms,
        "times": [times[0], *(later - earlier for earlier, later in pairwise(times))],
        "every": batch.sample_seconds,
        "machine": bytes.fromhex(batch.machine),
        # As bytes of their own, which are the same in each batch: they are packed once, and the server checks them once.
        "devices": told.devices_bytes,
        "absent": told.absent_bytes,
        "events": [header.put_event(event, places) for event in batch.events],
        "processes": header.put_processes(batch.processes, places),
    }
    head = {name: value for name, value in head.items() if value not in (b"", [])}
    if batch.software is not None:
        head["software"] = dict(batch.software)
    if batch.topology is not None:
        head["topology"] = header.put_topology(batch.topology)
    return head


class _Told(NamedTuple):
    """What hardly changes from one batch of a host to the next, and its bytes."""

    devices: Sequence[DeviceInfo]
    absent: Mapping[str, Mapping[str, AbsentReason]]
    devices_bytes: bytes
    absent_bytes: bytes


_last_told: dict[str, _Told] = {}  # by host


def _told(batch: Batch, places: Mapping[str, int]) -> _Told:
    last = _last_told.get(batch.host)
    if last and batch.devices == last.devices and batch.absent == last.absent:
        return last
    devices = msgpack.packb({"devices": [header.put_device(device) for device in batch.devices]})
    absent = msgpack.packb({"absent": header.put_absent(batch.absent, places)}) if batch.absent else b""
    if len(_last_told) >= _HOSTS_KEPT:  # a simulation's
        _last_told.clear()
    told = _last_told[batch.host] = _Told(batch.devices, batch.absent, devices, absent)
    return told


def _steps(block: Sequence[Sequence[float | None]], resolution: float) -> list[Sequence[int | None]]:
    """Return the readings in steps of the resolution; a step of 1 leaves integers of any size as they are."""
    steps: list[Sequence[int | None]] = []
    before: Sequence[float | None] | None = None
    for values in block:
        if values == before:  # two in three metrics are the same on all devices
            steps.append(steps[-1])
        elif values.count(values[0]) == len(values):  # and as many do not change within a batch
            steps.append((_step(values[0], resolution),) * len(values))
        elif resolution == 1:
            is_whole = _INTEGERS.issuperset(map(type, values))
            steps.append(values if is_whole else [None if value is None else round(value) for value in values])  # type: ignore[arg-type]
        elif None in values:
            steps.append([None if value is None else round(value / resolution) for value in values])
        else:
            steps.append([round(value / resolution) for value in values])  # type: ignore[operator]  # None of them is None
        before = values
    return steps


def _step(value: float | None, resolution: float) -> int | None:
    if value is None or (resolution == 1 and isinstance(value, int)):
        return value
    return round(value / resolution)
