"""A small fleet as the exposition finds it: hosts and devices with given newest readings; and what it then tells."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta

from prometheus_client.parser import text_string_to_metric_families as read_text

from fleet.models import Device, DeviceKind, Host, Origin
from telemetry.exposition.own_names import Names
from telemetry.exposition.scrape import Fleet, Wanted
from telemetry.models import LatestState

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
UUID = "GPU-c2f76b33-7953-256e-8f33-1343419b1a1c"
READINGS = {
    "gpu_utilization_ratio": 0.29,
    "memory_used_bytes": 85_061_664_768,
    "memory_used_ratio": 0.9912,
    "power_draw_watts": 683.412,
    "energy_joules_total": 5_551_899.58,
    "temperature_celsius": 61.0,
    "sm_clock_hertz": 1_980_000_000,
    "nvlink_bytes_per_second": 48_318_382_080,
    "ecc_corrected_total": 0,
    "xid_last": 79,
    "tensor_active_ratio": 0.5812,
}
AGENT = {"agent_cpu_seconds_total": 12.5, "agent_resident_bytes": 62_914_560, "agent_batches_dropped_total": 0}


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
    LatestState.objects.create(host=host, at_ms=int(seen.timestamp() * 1000), devices={})
    identity = {"kind": DeviceKind.NVIDIA, "model": "NVIDIA L4", "pci_bus_id": "00000000:31:00.0"}
    fields = {"uuid": UUID, "index": 0, "driver_version": "580.105.08", **identity, **device_fields}
    return add_device(host, values, absent, **fields)


def add_device(
    host: Host, values: Mapping[str, float], absent: Mapping[str, str] | None = None, **fields: object
) -> Device:
    """Return a new device of the host, which gave `values` with the host's newest sample."""
    device = Device.objects.create(host=host, **fields)
    tell(device, values, absent)
    return device


def tell(
    device: Device, values: Mapping[str, float], absent: Mapping[str, str] | None = None, later_ms: int = 0
) -> None:
    """Put readings of a device into its host's row, as a batch does that comes `later_ms` after the last."""
    row = LatestState.objects.get(host=device.host)
    row.at_ms += later_ms
    read_ms = row.at_ms if values else None
    row.devices[device.uuid] = {
        "at_ms": row.at_ms,
        "read_ms": read_ms,
        "values": dict(values),
        "absent": dict(absent or {}),
    }
    row.save()
    Host.objects.filter(pk=device.host_id).update(heard_at=device.host.heard_at + timedelta(milliseconds=later_ms))


def expose(*names: Names, openmetrics: bool = False, fleet: Fleet | None = None, now: datetime = NOW) -> str:
    """Return what a scrape of the whole fleet tells; without `fleet`, the first since the server's start."""
    wanted = Wanted(names or tuple(Names), openmetrics=openmetrics)
    return (fleet or Fleet()).document(wanted, now).decode()


def samples(text: str) -> dict[str, float]:
    """Return value by sample name, of a fleet where each name has one sample."""
    return {sample.name: sample.value for family in read_text(text) for sample in family.samples}


def sample_names(text: str) -> Sequence[str]:
    """Return the name of each line that is a sample."""
    return [line.partition("{")[0] for line in text.splitlines() if not line.startswith("#")]


def at_once(make: Callable[[], bytes]) -> "Future[bytes]":
    """Run where the renderer would hand over to its thread, which cannot see what a test's transaction holds."""
    future: Future[bytes] = Future()
    try:
        future.set_result(make())
    except Exception as error:  # noqa: BLE001 — handed on to whoever waits, as an executor does
        future.set_exception(error)
    return future
