"""A fleet as the exposition's bench has it: 1,250 hosts of 8 GPUs that give 30 metrics. Called by the benches; no database.

Readings are random steps of each metric's resolution, so that their digits are those of real ones and every one changes.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Any

from fleet.models import DeviceKind, Host
from telemetry.catalog import METRICS, Metric
from telemetry.store.newest import Identity

HOSTS, GPUS_PER_HOST, METRICS_PER_GPU = 1250, 8, 30
GIVEN = [metric for metric in METRICS if metric.dcgm_name][:METRICS_PER_GPU]  # those that both namings tell
_MOST = {
    "ratio": 1,
    "watts": 700,
    "joules": 1e9,
    "celsius": 90,
    "hertz": 2e9,
    "bytes": 8e10,
    "bytes_per_second": 5e10,
    "seconds": 1e6,
}

Readings = dict[str, dict[str, Any]]  # by uuid, as LatestState holds them


def size() -> str:
    return f"{HOSTS * GPUS_PER_HOST:,} GPUs × {METRICS_PER_GPU} metrics"


def hosts(now: datetime) -> list[Host]:
    return [
        Host(pk=n + 1, name=f"gpu-{n:04}", cluster="alpha", last_seen_at=now, heard_at=now, created_at=now)
        for n in range(HOSTS)
    ]


def identities(host: Host) -> list[Identity]:
    return [
        Identity(
            host_id=host.pk,
            pk=host.pk * GPUS_PER_HOST + index,
            uuid=f"GPU-{host.pk:08x}-0000-0000-0000-{index:012x}",
            kind=DeviceKind.NVIDIA.value,
            index=index,
            model="NVIDIA H100 80GB HBM3",
            pci_bus_id=f"00000000:{index + 1:02X}:00.0",
            driver_version="580.105.08",
            parent_id=None,
            profile="",
        )
        for index in range(GPUS_PER_HOST)
    ]


def readings(host: Host, at_ms: int) -> Readings:
    """Return new readings of all the host's GPUs; the same ones for the same time."""
    draws = _draws(Random(host.pk * 1_000_003 + at_ms))  # noqa: S311 — made-up readings need no cryptography
    return {
        identity.uuid: {
            "at_ms": at_ms,
            "read_ms": at_ms,
            "values": {metric.name: draws(metric) for metric in GIVEN},
            "absent": {},
        }
        for identity in identities(host)
    }


def milliseconds(now: datetime) -> int:
    return int(now.astimezone(UTC).timestamp() * 1000)


def _draws(random: Random) -> Callable[[Metric], float]:
    def draw(metric: Metric) -> float:
        most = _MOST.get(metric.unit, 1000)
        steps = int(random.random() * most / metric.resolution)
        return steps / round(1 / metric.resolution) if metric.resolution < 1 else steps * metric.resolution

    return draw
