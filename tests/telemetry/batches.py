"""Batches as an agent sends them, for tests: one CPU or GPU device, values given per tick; and their way to the store."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from hashlib import sha256

from fleet.models import Host
from telemetry.catalog import AbsentReason
from telemetry.decoding import received
from telemetry.message import wire
from telemetry.message.wire import Batch, DeviceEvent, DeviceInfo, DeviceKind, DeviceProcess, Topology
from telemetry.receiving.ingest import ingest

EPOCH = "0" * 31 + "1"
GPU = DeviceInfo(
    "GPU-6b6d8f2a-0000-0000-0000-000000000000",
    DeviceKind.NVIDIA,
    0,
    "NVIDIA H100 80GB HBM3",
    "00000000:07:00.0",
    "580.105.08",
)
MIG = replace(GPU, uuid="MIG-1", model="NVIDIA H100 80GB HBM3 MIG 1g.10gb", parent=GPU.uuid, profile="1g.10gb")
NODE = DeviceInfo("NODE-1", DeviceKind.NODE, 0, "PowerEdge XE9680")


def batch(
    times_ms: Sequence[int],
    columns: Mapping[str, Sequence[float | None]],
    *,
    host: str = "gpu-a01",
    sequence: int = 0,
    epoch: str = EPOCH,
    device: DeviceInfo = GPU,
    others: Sequence[DeviceInfo] = (),
    absent: Mapping[str, AbsentReason] | None = None,
    segment: int = 0,
    sample_seconds: float = 1.0,
    sent_ms: int | None = None,
    software: Mapping[str, str] | None = None,
    machine: str = "",
    events: Sequence[DeviceEvent] = (),
    processes: Mapping[str, Sequence[DeviceProcess]] | None = None,
    topology: Topology | None = None,
) -> Batch:
    """Return a batch in which `device` has the columns; the `others` stand beside it with the same values."""
    return Batch(
        host=host,
        epoch=epoch,
        sequence=sequence,
        segment=segment,
        sample_seconds=sample_seconds,
        sent_ms=times_ms[-1] if sent_ms is None else sent_ms,
        times_ms=list(times_ms),
        devices=[device, *others],
        columns={name: [list(values) for _ in (device, *others)] for name, values in columns.items()},
        absent={device.uuid: absent or {}},
        software={"driver": "580.105.08"} if software is None else software,
        machine=machine,
        events=events,
        processes=processes or {},
        topology=topology,
    )


def payload(times_ms: Sequence[int], columns: Mapping[str, Sequence[float | None]], **kwargs: object) -> bytes:
    return wire.pack(batch(times_ms, columns, **kwargs))  # type: ignore[arg-type]


def enrolled(name: str = "gpu-a01", **fields: object) -> Host:
    """Return the host, which has joined the fleet (its key is no real one: signatures are tested in test_authentic.py)."""
    key = sha256(name.encode()).digest()
    return Host.objects.get_or_create(name=name, defaults={"public_key": key, **fields})[0]


def take(body: bytes, now: datetime) -> bool:
    """Ingest a batch as the task does after its signature was found right."""
    return ingest(enrolled(received.unpack(body).host), body, now)
