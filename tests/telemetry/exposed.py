"""A small fleet as the exposition finds it: hosts and devices with given newest readings."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from fleet.models import Device, DeviceKind, Host, Origin
from telemetry.models import LatestState

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
UUID = "GPU-c2f76b33-7953-256e-8f33-1343419b1a1c"
READINGS = {
    "gpu_utilization_ratio": 0.29,
    "memory_used_bytes": 85_061_664_768,
    "power_draw_watts": 683.412,
    "energy_joules_total": 5_551_899.58,
    "temperature_celsius": 61,
    "sm_clock_hertz": 1_980_000_000,
    "ecc_corrected_total": 0,
}


def make_host(
    name: str = "gpu-a01",
    *,
    now: datetime = NOW,
    seconds_ago: float = 2,
    origin: Origin = Origin.REAL,
    values: Mapping[str, float] = READINGS,
    absent: Mapping[str, str] | None = None,
    **device_fields: object,
) -> Device:
    """Return the one device of a new host whose newest sample was taken `seconds_ago`."""
    seen = now - timedelta(seconds=seconds_ago)
    host = Host.objects.create(name=name, cluster="alpha", origin=origin, last_seen_at=seen, heard_at=seen)
    identity = {"kind": DeviceKind.NVIDIA, "model": "NVIDIA L4", "pci_bus_id": "00000000:31:00.0"}
    fields = {"uuid": UUID, "index": 0, "driver_version": "580.105.08", **identity, **device_fields}
    device = Device.objects.create(host=host, **fields)
    at_ms = int(seen.timestamp() * 1000)
    newest = {
        "at_ms": at_ms,
        "read_ms": at_ms if values else None,
        "values": dict(values),
        "absent": dict(absent or {}),
    }
    agent = {"cpu_seconds_total": 12.5, "resident_bytes": 62_914_560, "batches_dropped_total": 0}
    LatestState.objects.create(host=host, at_ms=at_ms, devices={device.uuid: newest}, agent=agent)
    return device
