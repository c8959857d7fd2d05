"""Rows for tests of what is stored: hosts, devices, their newest state, samples. For the ingest itself see batches.py."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from fleet.inventory import moves
from fleet.models import Device, DeviceKind, Host
from telemetry.message import wire
from telemetry.message.wire import Batch, DeviceInfo
from telemetry.models import LatestState, StoredBatch

Readings = Mapping[str, float]

GPU_READINGS = {
    "gpu_utilization_ratio": 0.93,
    "memory_used_bytes": 69.0 * 2**30,
    "memory_total_bytes": 80.0 * 2**30,
    "power_draw_watts": 651.0,
    "power_limit_watts": 700.0,
    "temperature_celsius": 64.0,
    "sm_clock_hertz": 1.98e9,
    "sm_clock_max_hertz": 1.98e9,
    "clock_event_reasons": 0.0,
}
CPU_READINGS = {
    "gpu_utilization_ratio": 0.37,
    "memory_used_bytes": 3.2 * 2**30,
    "memory_total_bytes": 8.0 * 2**30,
    "sm_clock_hertz": 2.4e9,
}


def make_host(name: str = "gpu-a01", *, seen_at: datetime | None = None, **fields: object) -> Host:
    at = seen_at or datetime.now(UTC)
    return Host.objects.create(name=name, **{"last_seen_at": at, "heard_at": at, **fields})


def move(uuid: str, host: Host, at: int) -> None:
    """Have a device be with another host from `at` (ms) on, as its host's batches would."""
    moves.move(Device.objects.get(uuid=uuid), host.pk, at)


def make_device(host: Host, index: int = 0, *, kind: str = DeviceKind.NVIDIA, **fields: object) -> Device:
    digest = hashlib.sha256(f"{host.name}/{kind}/{index}".encode()).hexdigest()
    defaults = {
        "uuid": f"{'CPU' if kind == DeviceKind.CPU else 'GPU'}-{digest[:8]}-{digest[8:12]}-0000",
        "model": "NVIDIA H100 80GB HBM3",
    }
    return Device.objects.create(host=host, kind=kind, index=index, **(defaults | fields))


def make_latest(
    host: Host, values: Mapping[Device, Readings], absent: Mapping[Device, Mapping[str, str]] | None = None
) -> LatestState:
    """The newest state of a host's devices, taken when the host was last seen."""
    at_ms = int(host.last_seen_at.timestamp() * 1000)
    devices = {
        device.uuid: {
            "at_ms": at_ms,
            "read_ms": at_ms if readings else None,
            "values": dict(readings),
            "absent": dict((absent or {}).get(device, {})),
        }
        for device, readings in values.items()
    }
    return LatestState.objects.create(host=host, at_ms=at_ms, devices=devices)


def make_gpu_host(name: str, n_devices: int = 8, *, silent: bool = False, **fields: object) -> Host:
    """A host with GPUs that all read the same; a silent one was last seen an hour ago."""
    seen_at = datetime.now(UTC) - timedelta(hours=1 if silent else 0)
    host = make_host(name, seen_at=seen_at, **fields)
    make_latest(host, {make_device(host, index): GPU_READINGS for index in range(n_devices)})
    return host


def make_chunks(
    host: Host,
    devices: Sequence[Device],
    times_ms: Sequence[int],
    columns: Mapping[str, Sequence[Sequence[float | None]]],
    *,
    ticks: int = 5,
    sequence: int = 0,
) -> None:
    """Store `columns[metric][device][tick]` as batches of `ticks` samples, as the ingest would."""
    infos = [DeviceInfo(d.uuid, wire.DeviceKind(d.kind), d.index, d.model) for d in devices]
    chunks = []
    for start in range(0, len(times_ms), ticks):
        part = slice(start, start + ticks)
        batch = Batch(
            host=host.name,
            epoch="0" * 32,
            sequence=sequence + len(chunks),
            segment=0,
            sent_ms=times_ms[part][-1],
            times_ms=times_ms[part],
            devices=infos,
            columns={metric: [column[part] for column in series] for metric, series in columns.items()},
        )
        chunks.append(
            StoredBatch(
                host=host,
                epoch=batch.epoch,
                sequence=batch.sequence,
                start_ms=batch.times_ms[0],
                end_ms=batch.times_ms[-1],
                body=wire.pack(batch),
            )
        )
    StoredBatch.objects.bulk_create(chunks)
