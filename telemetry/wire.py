"""What a host's agent sends: batches of samples, as msgpack bytes with a version. No Django.

Written by the agent's batcher, read by the ingest and by the store, each inside a signed envelope (envelope.py). Reading
checks every field and bounds every size; a message that does not fit raises `MessageInvalid` and has no effect.

A message is the map {"v", "head", "body"}: `head` is a zstd frame of a msgpack map, `body` holds the readings (codec.py).
"""

import re
from collections.abc import Container, Sequence
from itertools import accumulate, pairwise
from typing import Any

import msgpack
import zstandard

from telemetry import catalog, codec, header, wire_v1
from telemetry.batch import Batch, DeviceEvent, DeviceInfo, DeviceKind, DeviceProcess, EventKind, Topology
from telemetry.fields import (
    HOST_NAME,
    MessageInvalid,
    integer,
    mapping,
    matching,
    number,
    raw,
    read_message,
    rows,
    text,
)
from telemetry.header import LATEST_MS, MAX_DEVICES, MAX_EVENTS, MAX_PROCESSES, UUID

__all__ = [
    "HOST_NAME", "INGEST_QUEUE", "INGEST_TASK", "LATEST_MS", "MAX_BYTES", "MAX_DEVICES", "MAX_EVENTS", "MAX_PROCESSES",
    "MAX_SPAN_MS", "MAX_TICKS", "READ_VERSIONS", "UUID", "VERSION", "Batch", "DeviceEvent", "DeviceInfo", "DeviceKind",
    "DeviceProcess", "EventKind", "MessageInvalid", "Topology", "host_queue", "integer", "mapping", "matching", "number",
    "pack", "read_message", "text", "unpack",
]  # fmt: skip

VERSION = 2
READ_VERSIONS = (1, 2)  # the version before its own is read too: a server is upgraded before its agents
MAX_BYTES = 4_000_000
MAX_HEAD_BYTES = 2_000_000
MAX_TICKS = 10_000
MAX_SPAN_MS = 86_400_000  # what one message may make dirty
_EPOCH = re.compile(r"[0-9a-f]{32}")
_LEVEL = 9  # of a few hundred bytes: higher ones find no more, lower ones less

INGEST_TASK = "telemetry.ingest_batch"
INGEST_QUEUE = "telemetry"

# Without the frame's checksum: the envelope's signature covers it all.
_compressor = zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True, write_checksum=False)


def host_queue(name: str) -> str:
    """Return the name of the queue on which a host's agent takes its orders."""
    return f"host.{name}"


def pack(batch: Batch) -> bytes:
    """Return the batch's bytes; readings become integers of their metric's resolution.

    Raises MessageInvalid where `unpack` would refuse them for their length.
    """
    if len(batch.times_ms) > MAX_TICKS:
        raise MessageInvalid(f"times_ms: expected at most {MAX_TICKS} ticks, found {len(batch.times_ms)}")
    body = codec.encode(
        (metric.number, _steps(batch.columns[metric.name], metric.resolution))
        for metric in catalog.METRICS
        if metric.name in batch.columns
    )
    head = _compressor.compress(msgpack.packb(_head(batch)))
    return bytes(msgpack.packb({"v": VERSION, "head": head, "body": body}))


def _head(batch: Batch) -> dict[str, Any]:
    """Return the batch without its readings; what is empty is left out."""
    places = {device.uuid: place for place, device in enumerate(batch.devices)}
    times = batch.times_ms
    head: dict[str, Any] = {
        "host": batch.host,
        "epoch": bytes.fromhex(batch.epoch),
        "seq": batch.sequence,
        "segment": batch.segment,
        "sent": batch.sent_ms,
        "times": [times[0], *(later - earlier for earlier, later in pairwise(times))],
        "every": batch.sample_seconds,
        "machine": bytes.fromhex(batch.machine),
        "devices": [header.put_device(device) for device in batch.devices],
        "absent": header.put_absent(batch.absent, places),
        "events": [header.put_event(event, places) for event in batch.events],
        "processes": header.put_processes(batch.processes, places),
    }
    head = {name: value for name, value in head.items() if value not in (b"", [])}
    if batch.software is not None:
        head["software"] = dict(batch.software)
    if batch.topology is not None:
        head["topology"] = header.put_topology(batch.topology)
    return head


def _steps(block: Sequence[Sequence[float | None]], resolution: float) -> list[list[int | None]]:
    """Return the readings in steps of the resolution; a step of 1 leaves integers of any size as they are."""
    steps: list[list[int | None]] = []
    before: Sequence[float | None] | None = None
    for values in block:
        if values == before:  # two in three metrics are the same on all devices
            steps.append(steps[-1])
        elif resolution == 1:
            steps.append([None if value is None else round(value) for value in values])
        else:
            steps.append([None if value is None else round(value / resolution) for value in values])
        before = values
    return steps


def unpack(payload: bytes, metrics: Container[str] = catalog.BY_NAME) -> Batch:
    """Return the batch with the columns of `metrics`; one that this version does not know is left out.

    Raises MessageInvalid.
    """
    message = read_message(payload, MAX_BYTES)
    version = message.get("v")
    if version not in READ_VERSIONS:
        raise MessageInvalid(f"v: this server reads versions {READ_VERSIONS}, the message has {version!r}")
    return _unpack_1(message, metrics) if version == 1 else _unpack_2(message, metrics)


def _unpack_2(message: dict[str, Any], metrics: Container[str]) -> Batch:
    head = _read_head(message.get("head"))
    devices = _distinct([header.read_device(row) for row in rows(head, "devices", MAX_DEVICES)])
    uuids = [device.uuid for device in devices]
    times = _times(list(accumulate(integer(value, "times") for value in rows(head, "times", MAX_TICKS))))
    return Batch(
        host=matching(head, "host", HOST_NAME),
        epoch=raw(head.get("epoch"), "epoch", 16).hex(),
        sequence=integer(head.get("seq"), "seq"),
        segment=integer(head.get("segment"), "segment"),
        sent_ms=integer(head.get("sent"), "sent"),
        times_ms=times,
        sample_seconds=_sample_seconds(head.get("every")),
        devices=devices,
        columns=_columns(message.get("body"), metrics, len(devices), len(times)),
        absent=header.read_absent(rows(head, "absent", 100_000), uuids),
        software=_software(head) if "software" in head else None,
        machine=raw(head["machine"], "machine", 16).hex() if "machine" in head else "",
        events=[header.read_event(row, uuids) for row in rows(head, "events", MAX_EVENTS)],
        processes=header.read_processes(rows(head, "processes", MAX_DEVICES), uuids),
        topology=header.read_topology(head["topology"]) if "topology" in head else None,
    )


def _unpack_1(message: dict[str, Any], metrics: Container[str]) -> Batch:
    devices = _distinct([header.device_of(_of_version_1(row)) for row in rows(message, "devices", MAX_DEVICES)])
    times = _times([integer(value, "times_ms") for value in rows(message, "times_ms", MAX_TICKS)])
    try:
        found = wire_v1.columns(message, metrics, len(devices), len(times))
    except codec.BlockInvalid as error:
        raise MessageInvalid(f"body: {error}") from error
    return Batch(
        host=matching(message, "host", HOST_NAME),
        epoch=matching(message, "epoch", _EPOCH),
        sequence=integer(message.get("seq"), "seq"),
        segment=integer(message.get("segment"), "segment"),
        sent_ms=integer(message.get("sent_ms"), "sent_ms"),
        times_ms=times,
        sample_seconds=_sample_seconds(message.get("sample_seconds")),
        devices=devices,
        columns={name: _in_base_units(name, block) for name, block in found.items()},
        absent=wire_v1.absent(mapping(message, "absent"), {device.uuid for device in devices}),
        software=_software(message) if "software" in message else None,
    )


def _of_version_1(row: object) -> list[object]:
    if not isinstance(row, list) or len(row) != 6:
        raise MessageInvalid("devices: expected [uuid, kind, index, model, pci_bus_id, driver_version]")
    return row


def _read_head(head: object) -> dict[str, Any]:
    if not isinstance(head, bytes):
        raise MessageInvalid("head: expected bytes")
    try:
        # The stated size is checked before anything is allocated for it; -1 is a frame that states none.
        stated = zstandard.get_frame_parameters(head).content_size
        if not 0 <= stated <= MAX_HEAD_BYTES:
            raise MessageInvalid(f"head: expected at most {MAX_HEAD_BYTES} bytes, the frame states {stated}")
        return read_message(zstandard.ZstdDecompressor().decompress(head), MAX_HEAD_BYTES)
    except zstandard.ZstdError as error:
        raise MessageInvalid(f"head: cannot be decompressed ({error})") from error


def _columns(body: object, wanted: Container[str], n_devices: int, n_ticks: int) -> dict[str, list[list[float | None]]]:
    if not isinstance(body, bytes):
        raise MessageInvalid("body: expected bytes")
    names = {metric.number: metric.name for metric in catalog.METRICS if metric.name in wanted}
    try:
        found = codec.decode(body, n_devices=n_devices, n_ticks=n_ticks, wanted=names)
    except codec.BlockInvalid as error:
        raise MessageInvalid(f"body: {error}") from error
    return {names[number]: _in_base_units(names[number], block) for number, block in found.items()}


def _in_base_units(name: str, block: list[list[int | None]]) -> list[list[float | None]]:
    """Return the block in base units; whole steps are divided, not multiplied, so that 0.1 °C stays 41.3."""
    resolution = catalog.BY_NAME[name].resolution
    if resolution == 1:
        return [[*values] for values in block]
    if resolution > 1:
        return [[None if value is None else value * resolution for value in values] for values in block]
    per_unit = round(1 / resolution)
    return [[None if value is None else value / per_unit for value in values] for values in block]


def _times(times: list[int]) -> list[int]:
    if not times or any(later <= earlier for earlier, later in pairwise(times)):
        raise MessageInvalid("times_ms: expected at least one tick, in ascending order")
    if times[-1] - times[0] > MAX_SPAN_MS or times[-1] > LATEST_MS:
        raise MessageInvalid("times_ms: expected at most a day in one batch, before the year 10000")
    return times


def _distinct(devices: list[DeviceInfo]) -> list[DeviceInfo]:
    if len({device.uuid for device in devices}) != len(devices):
        raise MessageInvalid("devices: a uuid stands twice")
    return devices


def _software(message: dict[str, Any]) -> dict[str, str]:
    return {text(k, "software", 40): text(v, "software", 200) for k, v in mapping(message, "software").items()}


def _sample_seconds(value: object) -> float:
    seconds = number(value, "sample_seconds")
    if not 0.01 <= seconds <= 3600:
        raise MessageInvalid("sample_seconds: expected 0.01 to 3600")
    return seconds
