"""What a host's agent sends: batches of samples, as msgpack bytes with a version. No Django.

Written by the agent's batcher, read by the ingest and by the store, each inside a signed envelope (envelope.py). Reading
checks every field and bounds every size; a message that does not fit raises `MessageInvalid` and has no effect.
"""

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import Any

import msgpack

from telemetry import catalog, codec
from telemetry.catalog import AbsentReason

VERSION = 2
READ_VERSIONS = (1, 2)  # the version before its own is read too: a server is upgraded before its agents
MAX_BYTES = 4_000_000
MAX_DEVICES = 1024
MAX_TICKS = 10_000
MAX_SPAN_MS = 86_400_000  # what one message may make dirty
LATEST_MS = 253_402_300_799_000  # the end of the year 9999, and of Python's datetime
HOST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_UUID = re.compile(r"[A-Za-z0-9][A-Za-z0-9/_.:-]{0,95}")
_EPOCH = re.compile(r"[0-9a-f]{32}")

MAX_EVENTS = 10_000
MAX_PROCESSES = 4_096

INGEST_TASK = "telemetry.ingest_batch"
INGEST_QUEUE = "telemetry"


def host_queue(name: str) -> str:
    """Return the name of the queue on which a host's agent takes its orders."""
    return f"host.{name}"


class MessageInvalid(ValueError):
    """A message does not fit the wire format; the text says which field."""


class DeviceKind(StrEnum):
    NVIDIA = "nvidia"
    AMD = "amd"
    TPU = "tpu"
    CPU = "cpu"
    NODE = "node"  # the host as a whole: its power at the wall, its memory, its agent


class EventKind(StrEnum):
    """What the driver reports as it happens, not as a level."""

    XID = "xid"  # `code` is the XID
    CLOCK = "clock"  # the clocks changed; `code` is the clock event reasons' bit mask then


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """What a device is, apart from its readings. `uuid` identifies it; `index` is only shown.

    `parent` is the uuid of the device that a MIG instance is a part of, `profile` its size such as "1g.10gb".
    """

    uuid: str
    kind: DeviceKind
    index: int
    model: str
    pci_bus_id: str = ""
    driver_version: str = ""
    parent: str = ""
    profile: str = ""


@dataclass(frozen=True, slots=True)
class DeviceEvent:
    """`count` equal events of one device between `at_ms` (the first) and the next batch, UTC milliseconds."""

    uuid: str
    kind: EventKind
    code: int
    at_ms: int
    count: int = 1


@dataclass(frozen=True, slots=True)
class DeviceProcess:
    """A process that uses a device. What `/proc` or the driver does not tell is None or ""."""

    pid: int
    command: str = ""
    user: str = ""
    memory_bytes: int | None = None
    sm_ratio: float | None = None
    container: str = ""
    slurm_job: str = ""


@dataclass(frozen=True, slots=True)
class Topology:
    """How devices are joined: `links` has (uuid, uuid, way) once a pair, `numa` the NUMA node by uuid.

    The ways are those of `nvidia-smi topo`: NV<n> (n NVLinks), PIX, PXB, PHB, NODE, SYS.
    """

    links: Sequence[tuple[str, str, str]] = ()
    numa: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Batch:
    """Readings of one host over some ticks.

    `times_ms` are UTC milliseconds, `(n_ticks,)`, ascending within a batch: a wall clock that jumps ends the batch
    and begins the next `segment`. `columns[metric][device]` is `(n_ticks,)` in base units, None where absent;
    `absent[uuid][metric]` says why the last tick has no reading. `(host, epoch, sequence)` names the batch for ever.
    `processes[uuid]` is whole where it stands, and not looked at in this batch where it does not; so are `software` and
    `topology`, which come with an epoch's first batch and after a change. `machine` tells machines apart, 32 hex digits.
    """

    host: str
    epoch: str
    sequence: int
    segment: int
    sent_ms: int
    times_ms: Sequence[int]
    devices: Sequence[DeviceInfo]
    columns: Mapping[str, Sequence[Sequence[float | None]]]
    absent: Mapping[str, Mapping[str, AbsentReason]] = field(default_factory=dict)
    software: Mapping[str, str] | None = None
    sample_seconds: float = 1.0
    machine: str = ""
    events: Sequence[DeviceEvent] = ()
    processes: Mapping[str, Sequence[DeviceProcess]] = field(default_factory=dict)
    topology: Topology | None = None


def pack(batch: Batch) -> bytes:
    """Return the batch's bytes; readings become integers of their metric's resolution."""
    names = [name for name in catalog.BY_NAME if name in batch.columns]
    series = [
        [None if value is None else round(value / catalog.BY_NAME[name].resolution) for value in values]
        for name in names
        for values in batch.columns[name]
    ]
    mask, body = codec.encode(series)
    message = {
        "v": VERSION,
        "host": batch.host,
        "epoch": batch.epoch,
        "seq": batch.sequence,
        "segment": batch.segment,
        "sent_ms": batch.sent_ms,
        "times_ms": list(batch.times_ms),
        "sample_seconds": batch.sample_seconds,
        "devices": [list(astuple(device)) for device in batch.devices],
        "metrics": [catalog.BY_NAME[name].number for name in names],
        "mask": mask,
        "body": body,
        "absent": {uuid: {m: r.value for m, r in reasons.items()} for uuid, reasons in batch.absent.items()},
        "machine": batch.machine,
        "events": [list(astuple(event)) for event in batch.events],
        "processes": {uuid: [list(astuple(p)) for p in found] for uuid, found in batch.processes.items()},
    }
    if batch.software is not None:
        message["software"] = dict(batch.software)
    if batch.topology is not None:
        message["topology"] = [[list(link) for link in batch.topology.links], dict(batch.topology.numa)]
    return bytes(msgpack.packb(message))


def unpack(payload: bytes, metrics: Container[str] = catalog.BY_NAME) -> Batch:
    """Return the batch with the columns of `metrics`; one that this version does not know is left out.

    Raises MessageInvalid.
    """
    message = read_message(payload, MAX_BYTES)
    if message.get("v") not in READ_VERSIONS:
        raise MessageInvalid(f"v: this server reads versions {READ_VERSIONS}, the message has {message.get('v')!r}")
    devices = [_device(row) for row in _list(message, "devices", MAX_DEVICES)]
    times = [integer(value, "times_ms") for value in _list(message, "times_ms", MAX_TICKS)]
    if not times or any(later <= earlier for earlier, later in pairwise(times)):
        raise MessageInvalid("times_ms: expected at least one tick, in ascending order")
    if times[-1] - times[0] > MAX_SPAN_MS or times[-1] > LATEST_MS:
        raise MessageInvalid("times_ms: expected at most a day in one batch, before the year 10000")
    if len({device.uuid for device in devices}) != len(devices):
        raise MessageInvalid("devices: a uuid stands twice")
    uuids = {device.uuid for device in devices}
    names = [_metric_name(value) for value in _list(message, "metrics", 1000)]
    return Batch(
        host=matching(message, "host", HOST_NAME),
        epoch=matching(message, "epoch", _EPOCH),
        sequence=integer(message.get("seq"), "seq"),
        segment=integer(message.get("segment"), "segment"),
        sent_ms=integer(message.get("sent_ms"), "sent_ms"),
        times_ms=times,
        sample_seconds=_sample_seconds(message.get("sample_seconds")),
        devices=devices,
        columns=_columns(message, names, metrics, len(devices), len(times)),
        absent=_absent(mapping(message, "absent"), uuids),
        software=_software(message) if "software" in message else None,
        machine=text(message.get("machine", ""), "machine", 32),
        events=[_event(row, uuids) for row in _list(message, "events", MAX_EVENTS, optional=True)],
        processes=_processes(mapping(message, "processes"), uuids),
        topology=_topology(message["topology"]) if "topology" in message else None,
    )


def _metric_name(value: object) -> str:
    """Return the metric's name; version 1 wrote it out. A number that this version does not know names none."""
    if isinstance(value, str):
        return text(value, "metrics")
    known = catalog.BY_NUMBER.get(integer(value, "metrics"))
    return known.name if known else f"metric {value}"


def _software(message: dict[str, Any]) -> dict[str, str]:
    return {text(k, "software", 40): text(v, "software", 200) for k, v in mapping(message, "software").items()}


def _event(row: object, uuids: set[str]) -> DeviceEvent:
    if not isinstance(row, list) or len(row) != 5 or row[0] not in uuids or row[1] not in list(EventKind):
        raise MessageInvalid("events: expected [uuid of a device here, kind, code, at_ms, count]")
    code, at_ms, count = (integer(value, "events") for value in row[2:])
    if at_ms > LATEST_MS or count >= 2**31:
        raise MessageInvalid("events: a time or a count is too large")
    return DeviceEvent(row[0], EventKind(row[1]), code, at_ms, count)


def _processes(raw: dict[Any, Any], uuids: set[str]) -> dict[str, list[DeviceProcess]]:
    found = {}
    for uuid, rows in raw.items():
        if uuid not in uuids or not isinstance(rows, list) or len(rows) > MAX_PROCESSES:
            raise MessageInvalid("processes: expected lists by the uuid of a device here")
        found[uuid] = [_process(row) for row in rows]
    return found


def _process(row: object) -> DeviceProcess:
    if not isinstance(row, list) or len(row) != 7:
        raise MessageInvalid("processes: expected [pid, command, user, memory, share of the SMs, container, Slurm job]")
    pid, command, user, memory, share, container, slurm_job = row
    return DeviceProcess(
        pid=integer(pid, "processes"),
        command=text(command, "processes"),
        user=text(user, "processes", 100),
        memory_bytes=None if memory is None else integer(memory, "processes"),
        sm_ratio=None if share is None else number(share, "processes"),
        container=text(container, "processes", 100),
        slurm_job=text(slurm_job, "processes", 100),
    )


def _topology(raw: object) -> Topology:
    if not isinstance(raw, list) or len(raw) != 2 or not isinstance(raw[0], list) or not isinstance(raw[1], dict):
        raise MessageInvalid("topology: expected [links, NUMA node by uuid]")
    if len(raw[0]) > MAX_DEVICES**2 or len(raw[1]) > MAX_DEVICES:
        raise MessageInvalid("topology: too many links")
    links = []
    for row in raw[0]:
        if not isinstance(row, list) or len(row) != 3:
            raise MessageInvalid("topology: expected links [uuid, uuid, way]")
        one, other, way = (text(value, "topology", 96) for value in row)
        links.append((one, other, way))
    return Topology(links, {text(k, "topology", 96): integer(v, "topology") for k, v in raw[1].items()})


def _columns(
    message: dict[str, Any], names: list[str], wanted: Container[str], n_devices: int, n_ticks: int
) -> dict[str, list[list[float | None]]]:
    mask, body = message.get("mask"), message.get("body")
    if not isinstance(mask, bytes) or not isinstance(body, bytes):
        raise MessageInvalid("mask, body: expected bytes")
    blocks = {
        name: range(number * n_devices, (number + 1) * n_devices)
        for number, name in enumerate(names)
        if name in wanted and name in catalog.BY_NAME
    }
    positions = {position for block in blocks.values() for position in block}
    try:
        series = codec.decode(mask, body, n_series=len(names) * n_devices, n_ticks=n_ticks, wanted=positions)
    except codec.BlockInvalid as error:
        raise MessageInvalid(f"body: {error}") from error
    return {
        name: [[_base(value, catalog.BY_NAME[name].resolution) for value in series[position]] for position in block]
        for name, block in blocks.items()
    }


def _base(value: int | None, resolution: float) -> float | None:
    """Return the value in base units; whole steps are divided, not multiplied, so that 0.1 °C stays 41.3."""
    if value is None:
        return None
    return value / round(1 / resolution) if resolution < 1 else value * resolution


def _sample_seconds(value: object) -> float:
    seconds = number(value, "sample_seconds")
    if not 0.01 <= seconds <= 3600:
        raise MessageInvalid("sample_seconds: expected 0.01 to 3600")
    return seconds


def _device(row: object) -> DeviceInfo:
    if not isinstance(row, list) or len(row) not in {6, 8}:  # version 1 knew no parts of devices
        raise MessageInvalid(
            "devices: expected [uuid, kind, index, model, pci_bus_id, driver_version, parent, profile]"
        )
    uuid, kind, index, *texts = row
    if not isinstance(uuid, str) or not _UUID.fullmatch(uuid):
        raise MessageInvalid("devices: uuid has characters that no driver gives")
    if kind not in list(DeviceKind):
        raise MessageInvalid(f"devices: kind {kind!r} is not known")
    if integer(index, "devices") >= 2**31:
        raise MessageInvalid("devices: the index is too large")
    return DeviceInfo(uuid, DeviceKind(kind), integer(index, "devices"), *(text(v, "devices") for v in texts))


def _absent(raw: dict[Any, Any], uuids: set[str]) -> dict[str, dict[str, AbsentReason]]:
    known = set(AbsentReason)
    return {
        uuid: {
            m: AbsentReason(r) if r in known else AbsentReason.UNKNOWN
            for m, r in reasons.items()
            if m in catalog.BY_NAME
        }
        for uuid, reasons in raw.items()
        if uuid in uuids and isinstance(reasons, dict)
    }


# Field readers, shared with training/wire.py ----------------------------------------------------------------------


def read_message(payload: object, limit: int) -> dict[str, Any]:
    """Return the message's map. Raises MessageInvalid where the bytes are too many or are no map."""
    if not isinstance(payload, bytes) or len(payload) > limit:
        raise MessageInvalid(f"message: expected at most {limit} bytes")
    try:
        message = msgpack.unpackb(payload, strict_map_key=False)
    except (ValueError, msgpack.UnpackException) as error:
        raise MessageInvalid(f"message: not msgpack ({error})") from error
    if not isinstance(message, dict):
        raise MessageInvalid("message: expected a map")
    return message


def text(value: object, name: str, limit: int = 500) -> str:
    if not isinstance(value, str) or len(value) > limit:
        raise MessageInvalid(f"{name}: expected text of at most {limit} characters")
    return value.replace("\x00", "")  # PostgreSQL's text cannot hold it


def matching(message: dict[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    value = message.get(name)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise MessageInvalid(f"{name}: {value!r} does not match {pattern.pattern}")
    return value


def integer(value: object, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**62:
        raise MessageInvalid(f"{name}: expected a non-negative integer")
    return value


def number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or abs(value) == float("inf"):  # noqa: PLR0124 — NaN
        raise MessageInvalid(f"{name}: expected a finite number")
    return float(value)


def mapping(message: dict[str, Any], name: str) -> dict[Any, Any]:
    value = message.get(name, {})
    if not isinstance(value, dict) or len(value) > MAX_DEVICES:
        raise MessageInvalid(f"{name}: expected a map")
    return value


def _list(message: dict[str, Any], name: str, limit: int, *, optional: bool = False) -> list[Any]:
    value = message.get(name, [] if optional else None)
    if not isinstance(value, list) or len(value) > limit:
        raise MessageInvalid(f"{name}: expected a list of at most {limit}")
    return value
