"""What a batch says beside its readings ↔ what msgpack carries: devices, absences, events, processes, topology. No Django.

Called by the wire. Where a row names a device of the batch, it does so by its place in `devices`.
"""

import re
import uuid as digests
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any

from telemetry import catalog
from telemetry.catalog import AbsentReason
from telemetry.message.batch import DeviceEvent, DeviceInfo, DeviceKind, DeviceProcess, EventKind, Topology
from telemetry.message.fields import MessageInvalid, integer, number, text

MAX_DEVICES = 1024
MAX_EVENTS = 10_000
MAX_EVENT_COUNT = 1_000_000  # of equal ones in a batch: more, and the driver's report itself is the fault
MAX_PROCESSES = 4_096  # of one device
MAX_LINKS = 16_384  # every pair of 181 devices
LATEST_MS = 253_402_300_799_000  # the end of the year 9999, and of Python's datetime
_MAX_METRICS = 1_000
_PROCESS_FIELDS = 7  # as an agent of the release before told of a process
_INT_32 = 2**31
UUID = re.compile(r"[A-Za-z0-9][A-Za-z0-9/_.:-]{0,95}")
_DIGEST_UUID = re.compile(r"([A-Za-z0-9/_.:-]{0,60}?)([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})")

Absent = dict[str, dict[str, AbsentReason]]
Places = Mapping[str, int]


def put_uuid(uuid: str) -> str | bytes:
    """Return 16 bytes and the prefix ("GPU-") where it is that kind of uuid: hexadecimal digits do not compress."""
    found = _DIGEST_UUID.fullmatch(uuid)
    return digests.UUID(found[2]).bytes + found[1].encode() if found else uuid


def read_uuid(value: object) -> object:
    """Return the uuid's text, or what else stands there."""
    if isinstance(value, bytes) and len(value) >= 16:
        return value[16:].decode("ascii", "replace") + str(digests.UUID(bytes=value[:16]))
    return value


def put_device(device: DeviceInfo) -> list[Any]:
    return [
        put_uuid(device.uuid), device.kind.value, device.index, device.model, device.pci_bus_id,
        device.driver_version, put_uuid(device.parent), device.profile,
    ]  # fmt: skip


def read_device(row: object) -> DeviceInfo:
    if not isinstance(row, list) or len(row) != 8:
        raise MessageInvalid(
            "devices: expected [uuid, kind, index, model, pci_bus_id, driver_version, parent, profile]"
        )
    return device_of([read_uuid(row[0]), *row[1:6], read_uuid(row[6]), row[7]])


def device_of(row: Sequence[object]) -> DeviceInfo:
    """Return the device of [uuid, kind, index, …] in the order of DeviceInfo, all checked."""
    uuid, kind, index, *texts = row
    if not isinstance(uuid, str) or not UUID.fullmatch(uuid):
        raise MessageInvalid("devices: uuid has characters that no driver gives")
    if kind not in list(DeviceKind):
        raise MessageInvalid(f"devices: kind {kind!r} is not known")
    known = DeviceKind(str(kind))
    return DeviceInfo(uuid, known, _small(index, "devices"), *(text(each, "devices") for each in texts))


def put_absent(absent: Mapping[str, Mapping[str, AbsentReason]], places: Places) -> list[Any]:
    """Return [reason, places of devices, numbers of metrics] for each set of metrics that devices lack alike."""
    lacking: dict[tuple[str, tuple[int, ...]], list[int]] = {}
    for uuid, reasons in absent.items():
        for reason in sorted(set(reasons.values())) if uuid in places else ():
            numbers = tuple(sorted(catalog.BY_NAME[name].number for name, why in reasons.items() if why is reason))
            lacking.setdefault((reason.value, numbers), []).append(places[uuid])
    return [[reason, found, list(numbers)] for (reason, numbers), found in lacking.items()]


def read_absent(rows: list[Any], uuids: Sequence[str]) -> Absent:
    """A reason that this version does not know is UNKNOWN; a metric that it does not know is left out."""
    absent: Absent = {}
    n_told = 0
    for row in rows:
        if not isinstance(row, list) or len(row) != 3 or not isinstance(row[1], list) or not isinstance(row[2], list):
            raise MessageInvalid("absent: expected [reason, places of devices, numbers of metrics]")
        n_told += len(row[1]) * len(row[2])
        if n_told > len(uuids) * _MAX_METRICS:
            raise MessageInvalid("absent: more readings than there can be")
        numbers = [integer(n, "absent") for n in row[2]]
        reasons = {catalog.BY_NUMBER[n].name: reason_of(row[0]) for n in numbers if n in catalog.BY_NUMBER}
        for each in row[1]:
            absent.setdefault(_named(each, uuids, "absent"), {}).update(reasons)
    return absent


def reason_of(value: object) -> AbsentReason:
    return AbsentReason(str(value)) if value in list(AbsentReason) else AbsentReason.UNKNOWN


def put_event(event: DeviceEvent, places: Places) -> list[Any]:
    return [_place(event.uuid, places, "events"), event.kind.value, event.code, event.at_ms, event.count]


def read_event(row: object, uuids: Sequence[str]) -> DeviceEvent:
    if not isinstance(row, list) or len(row) != 5 or row[1] not in list(EventKind):
        raise MessageInvalid("events: expected [place of a device, kind, code, at_ms, count]")
    code, at_ms, count = integer(row[2], "events"), integer(row[3], "events"), _small(row[4], "events")
    if at_ms > LATEST_MS:
        raise MessageInvalid("events: the time is after the year 9999")
    return DeviceEvent(_named(row[0], uuids, "events"), EventKind(row[1]), code, at_ms, min(count, MAX_EVENT_COUNT))


def put_processes(processes: Mapping[str, Sequence[DeviceProcess]], places: Places) -> list[Any]:
    return [
        [_place(uuid, places, "processes"), [_put_process(process) for process in found]]
        for uuid, found in processes.items()
    ]


def _put_process(process: DeviceProcess) -> list[Any]:
    """Return the row; what a server of the release before does not know is left out where it says nothing."""
    row = list(astuple(process))
    return row if process.only_draws else row[:_PROCESS_FIELDS]


def read_processes(rows: list[Any], uuids: Sequence[str]) -> dict[str, list[DeviceProcess]]:
    found = {}
    for row in rows:
        if not isinstance(row, list) or len(row) != 2 or not isinstance(row[1], list) or len(row[1]) > MAX_PROCESSES:
            raise MessageInvalid(f"processes: expected [place of a device, at most {MAX_PROCESSES} processes]")
        found[_named(row[0], uuids, "processes")] = [_process(each) for each in row[1]]
    return found


def _process(row: object) -> DeviceProcess:
    if not isinstance(row, list) or len(row) not in {_PROCESS_FIELDS, _PROCESS_FIELDS + 1}:
        raise MessageInvalid(
            "processes: expected [pid, command, user, memory, share of the SMs, container, Slurm job, whether it only draws]"
        )
    pid, command, user, memory, share, container, slurm_job, *only_draws = row
    return DeviceProcess(
        pid=integer(pid, "processes"),
        command=text(command, "processes"),
        user=text(user, "processes", 100),
        memory_bytes=None if memory is None else integer(memory, "processes"),
        sm_ratio=None if share is None else number(share, "processes"),
        container=text(container, "processes", 100),
        slurm_job=text(slurm_job, "processes", 100),
        only_draws=only_draws == [True],
    )


def put_topology(topology: Topology) -> list[Any]:
    """Return [links, NUMA nodes]; both name devices by uuid, since one may be gone from this batch."""
    links = [[put_uuid(one), put_uuid(other), way] for one, other, way in topology.links]
    return [links, [[put_uuid(uuid), node] for uuid, node in topology.numa.items()]]


def read_topology(raw: object) -> Topology:
    if not isinstance(raw, list) or len(raw) != 2 or not all(isinstance(part, list) for part in raw):
        raise MessageInvalid("topology: expected [links, NUMA nodes]")
    links, nodes = raw
    if len(links) > MAX_LINKS or len(nodes) > MAX_DEVICES:
        raise MessageInvalid(f"topology: expected at most {MAX_LINKS} links and {MAX_DEVICES} nodes")
    if not all(isinstance(row, list) and len(row) == 3 for row in links):
        raise MessageInvalid("topology: expected links [uuid, uuid, way]")
    if not all(isinstance(row, list) and len(row) == 2 for row in nodes):
        raise MessageInvalid("topology: expected nodes [uuid, number]")
    return Topology(
        [(_uuid_text(one), _uuid_text(other), text(way, "topology", 20)) for one, other, way in links],
        {_uuid_text(uuid): _small(node, "topology") for uuid, node in nodes},
    )


def _uuid_text(value: object) -> str:
    uuid = read_uuid(value)
    if not isinstance(uuid, str) or not UUID.fullmatch(uuid):
        raise MessageInvalid("topology: a uuid has characters that no driver gives")
    return uuid


def _place(uuid: str, places: Places, name: str) -> int:
    if uuid not in places:
        raise MessageInvalid(f"{name}: device {uuid} is not in this batch")
    return places[uuid]


def _named(value: object, uuids: Sequence[str], name: str) -> str:
    place = integer(value, name)
    if place >= len(uuids):
        raise MessageInvalid(f"{name}: there is no device {place} in this batch")
    return uuids[place]


def _small(value: object, name: str) -> int:
    found = integer(value, name)
    if found >= _INT_32:
        raise MessageInvalid(f"{name}: expected less than 2**31")
    return found
