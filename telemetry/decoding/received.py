"""Reading what a host sent: a batch's bytes (wire.py) to its parts, every field checked and every size bounded. No Django.

Called by the ingest, the store and the importers. A message that does not fit raises `MessageInvalid` and has no effect.
`unpack` gives lists, for what is small; `read` gives numpy's matrices, for what is read by the thousand.
"""

from collections.abc import Container, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any

import zstandard

from telemetry import catalog
from telemetry.decoding import codec_v2, last_tick, matrix
from telemetry.decoding.last_tick import Body, LastTick
from telemetry.decoding.matrix import Part
from telemetry.message import header
from telemetry.message.batch import Batch, Cargo, DeviceInfo
from telemetry.message.codec import BlockInvalid
from telemetry.message.fields import (
    HOST_NAME,
    MessageInvalid,
    integer,
    mapping,
    matching,
    number,
    raw,
    read_message,
    rows,
    shown,
    text,
)
from telemetry.message.frames import Decompressor
from telemetry.message.header import LATEST_MS, MAX_DEVICES, MAX_EVENTS
from telemetry.message.wire import MAX_BYTES, MAX_CARGO_BYTES, MAX_SPAN_MS, MAX_TICKS, VERSION

READ_VERSIONS = (VERSION - 1, VERSION)  # the version before its own is read too: a server is upgraded before its agents
_MAX_HEAD_BYTES = 2_000_000
_MAX_CARGO_BYTES = 2 * MAX_CARGO_BYTES  # what frames the pieces, and an agent of a later version
_MAX_ABSENT = 100_000
_HOSTS_KEPT = 4096  # whose devices and absences are kept as they were checked
_MAX_KEPT_BYTES = 65_536  # of each: what is larger is checked each time
_MAX_KEPT_DEVICES = 64
_decompressor = Decompressor()


def unpack(payload: bytes, metrics: Container[str] = catalog.BY_NAME) -> Batch:
    """Return the batch with the columns of `metrics`; one that this version does not know is left out.

    Raises MessageInvalid.
    """
    message = _message(payload)
    batch = _head(message)
    return replace(batch, columns=_columns(message, metrics, len(batch.devices), len(batch.times_ms)))


def read(payload: bytes) -> tuple[Batch, list[Part]]:
    """Return the batch without its columns and its cargo, and all its readings as matrices. Raises MessageInvalid."""
    message = _message(payload)
    batch = _head(message)
    n_devices, n_ticks = len(batch.devices), len(batch.times_ms)
    try:
        if message["v"] != VERSION:
            return batch, matrix.of_columns(_columns(message, catalog.BY_NAME, n_devices, n_ticks))
        return batch, matrix.of_body(_body(message), n_devices=n_devices, n_ticks=n_ticks)
    except BlockInvalid as error:
        raise MessageInvalid(f"body: {error}") from error


def read_last(payloads: Sequence[bytes]) -> list[tuple[Batch, LastTick] | MessageInvalid]:
    """Return of each the batch with its cargo, without its columns, and its last readings, all others checked too.

    Of one that does not fit, return what is wrong with it.
    """
    heads: list[tuple[Batch, Body | LastTick] | MessageInvalid] = []
    for payload in payloads:
        try:
            heads.append(_with_body(_message(payload)))
        except MessageInvalid as error:
            heads.append(error)
    bodies = [head[1] for head in heads if not isinstance(head, MessageInvalid) and isinstance(head[1], Body)]
    last = iter(last_tick.of_bodies(bodies))
    return [head if isinstance(head, MessageInvalid) else _with_last(*head, last) for head in heads]


def _with_body(message: dict[str, Any]) -> tuple[Batch, Body | LastTick]:
    """Return the batch with its cargo, and its body; of a version before, its readings. Raises MessageInvalid."""
    batch = _with_cargo(message)
    n_devices, n_ticks = len(batch.devices), len(batch.times_ms)
    if message["v"] == VERSION:
        return batch, Body(_body(message), n_devices, n_ticks)
    try:
        parts = matrix.of_columns(_columns(message, catalog.BY_NAME, n_devices, n_ticks))
    except BlockInvalid as error:
        raise MessageInvalid(f"body: {error}") from error
    return batch, last_tick.of_parts(parts, n_ticks)


def _with_last(
    batch: Batch, body: Body | LastTick, last: Iterator[LastTick | BlockInvalid]
) -> tuple[Batch, LastTick] | MessageInvalid:
    found = next(last) if isinstance(body, Body) else body
    return MessageInvalid(f"body: {found}") if isinstance(found, BlockInvalid) else (batch, found)


def is_same(one: bytes, other: bytes) -> bool:
    """Tell whether two messages that were read before say the same: a batch may be packed anew when it is sent again."""
    if one == other:
        return True
    a, b = read_message(one, MAX_BYTES), read_message(other, MAX_BYTES)
    heads = [_read_head(message.get("head")) for message in (a, b)]
    return a.get("body") == b.get("body") and all(
        heads[0].get(key) == heads[1].get(key) for key in ("times", "machine")
    )


def _message(payload: bytes) -> dict[str, Any]:
    message = read_message(payload, MAX_BYTES)
    if message.get("v") not in READ_VERSIONS:
        raise MessageInvalid(
            f"v: this server reads versions {READ_VERSIONS}, the message has {shown(message.get('v'))}"
        )
    return message


def _head(message: dict[str, Any]) -> Batch:
    head = _read_head(message.get("head"))
    devices = _devices(head)
    uuids = tuple(device.uuid for device in devices)
    times = _times(list(accumulate(integer(value, "times") for value in rows(head, "times", MAX_TICKS))))
    return Batch(
        host=matching(head, "host", HOST_NAME),
        epoch=raw(head.get("epoch"), "epoch", 16).hex(),
        sequence=integer(head.get("seq"), "seq"),
        segment=integer(head.get("segment"), "segment"),
        sent_ms=integer(head.get("sent"), "sent"),
        times_ms=times,
        sample_seconds=_sample_seconds(head.get("every")),
        devices=list(devices),
        columns={},
        absent=_absent(head, uuids),
        software=_software(head) if "software" in head else None,
        machine=raw(head["machine"], "machine", 16).hex() if "machine" in head else "",
        events=[header.read_event(row, uuids) for row in rows(head, "events", MAX_EVENTS)],
        processes=header.read_processes(rows(head, "processes", MAX_DEVICES), uuids),
        topology=header.read_topology(head["topology"]) if "topology" in head else None,
    )


def _with_cargo(message: dict[str, Any]) -> Batch:
    batch = _head(message)
    return replace(batch, cargo=_cargo(message["cargo"])) if "cargo" in message else batch


def _cargo(packed: object) -> Cargo:
    """Return the pieces by name; a name that nobody here takes is none's concern."""
    found: dict[Any, Any] = _framed(packed, "cargo", _MAX_CARGO_BYTES)
    for name, pieces in found.items():
        if not isinstance(name, str) or not isinstance(pieces, list) or not all(type(each) is bytes for each in pieces):
            raise MessageInvalid("cargo: expected lists of bytes by name")
    return found


def _read_head(head: object) -> dict[str, Any]:
    return _framed(head, "head", _MAX_HEAD_BYTES)


def _framed(packed: object, name: str, limit: int) -> dict[str, Any]:
    """Return the map in a zstd frame. Raises MessageInvalid."""
    if not isinstance(packed, bytes):
        raise MessageInvalid(f"{name}: expected bytes")
    try:
        # The stated size is checked before anything is allocated for it; -1 is a frame that states none.
        stated = zstandard.frame_content_size(packed)
        if not 0 <= stated <= limit:
            raise MessageInvalid(f"{name}: expected at most {limit} bytes, the frame states {stated}")
        return read_message(_decompressor.decompress(packed), limit)
    except zstandard.ZstdError as error:
        raise MessageInvalid(f"{name}: cannot be decompressed ({error})") from error


def _columns(
    message: dict[str, Any], wanted: Container[str], n_devices: int, n_ticks: int
) -> dict[str, list[list[float | None]]]:
    body = _body(message)
    names = {metric.number: metric.name for metric in catalog.METRICS if metric.name in wanted}
    try:
        if message["v"] == VERSION:
            found = matrix.to_columns(matrix.of_body(body, n_devices=n_devices, n_ticks=n_ticks), n_devices, n_ticks)
        else:
            found = codec_v2.decode(body, n_devices=n_devices, n_ticks=n_ticks, wanted=names)
    except BlockInvalid as error:
        raise MessageInvalid(f"body: {error}") from error
    return {names[number]: _in_base_units(names[number], block) for number, block in found.items() if number in names}


def _body(message: dict[str, Any]) -> bytes:
    body = message.get("body")
    if not isinstance(body, bytes):
        raise MessageInvalid("body: expected bytes")
    return body


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


def _devices(head: dict[str, Any]) -> tuple[DeviceInfo, ...]:
    packed = head.get("devices", [])
    if not isinstance(packed, bytes):
        return _checked_devices(head)
    return _kept_devices(packed) if len(packed) <= _MAX_KEPT_BYTES else _read_devices(packed)


def _read_devices(packed: bytes) -> tuple[DeviceInfo, ...]:
    return _checked_devices(read_message(packed, _MAX_HEAD_BYTES))


# A host's devices are the same bytes in each of its batches: they are checked once.
_kept_devices = lru_cache(maxsize=_HOSTS_KEPT)(_read_devices)


def _checked_devices(head: dict[str, Any]) -> tuple[DeviceInfo, ...]:
    devices = [header.read_device(row) for row in rows(head, "devices", MAX_DEVICES)]
    if len({device.uuid for device in devices}) != len(devices):
        raise MessageInvalid("devices: a uuid stands twice")
    return tuple(devices)


def _absent(head: dict[str, Any], uuids: tuple[str, ...]) -> header.Absent:
    packed = head.get("absent", [])
    if not isinstance(packed, bytes):
        return header.read_absent(rows(head, "absent", _MAX_ABSENT), uuids)
    # A few bytes may name every metric of every device.
    is_small = len(packed) + sum(map(len, uuids)) <= _MAX_KEPT_BYTES and len(uuids) <= _MAX_KEPT_DEVICES
    return _kept_absent(packed, uuids) if is_small else _read_absent(packed, uuids)


def _read_absent(packed: bytes, uuids: tuple[str, ...]) -> header.Absent:
    return header.read_absent(rows(read_message(packed, _MAX_HEAD_BYTES), "absent", _MAX_ABSENT), uuids)


_kept_absent = lru_cache(maxsize=_HOSTS_KEPT)(_read_absent)


def _software(message: dict[str, Any]) -> dict[str, str]:
    return {text(k, "software", 40): text(v, "software", 200) for k, v in mapping(message, "software").items()}


def _sample_seconds(value: object) -> float:
    seconds = number(value, "sample_seconds")
    if not 0.01 <= seconds <= 3600:
        raise MessageInvalid("sample_seconds: expected 0.01 to 3600")
    return seconds
