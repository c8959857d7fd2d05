"""Batches as an agent sends them, for tests: one CPU or GPU device, values given per tick."""

from collections.abc import Mapping, Sequence

from telemetry import wire
from telemetry.catalog import AbsentReason
from telemetry.wire import Batch, DeviceInfo, DeviceKind

EPOCH = "0" * 31 + "1"
GPU = DeviceInfo(
    "GPU-6b6d8f2a-0000-0000-0000-000000000000",
    DeviceKind.NVIDIA,
    0,
    "NVIDIA H100 80GB HBM3",
    "00000000:07:00.0",
    "580.105.08",
)


def batch(
    times_ms: Sequence[int],
    columns: Mapping[str, Sequence[float | None]],
    *,
    host: str = "gpu-a01",
    sequence: int = 0,
    epoch: str = EPOCH,
    device: DeviceInfo = GPU,
    absent: Mapping[str, AbsentReason] | None = None,
    segment: int = 0,
    sample_seconds: float = 1.0,
) -> Batch:
    return Batch(
        host=host,
        epoch=epoch,
        sequence=sequence,
        segment=segment,
        sample_seconds=sample_seconds,
        sent_ms=times_ms[-1],
        times_ms=list(times_ms),
        devices=[device],
        columns={name: [list(values)] for name, values in columns.items()},
        absent={device.uuid: absent or {}},
        software={"driver": "580.105.08"},
        agent={"resident_bytes": 6e7},
    )


def payload(times_ms: Sequence[int], columns: Mapping[str, Sequence[float | None]], **kwargs: object) -> bytes:
    return wire.pack(batch(times_ms, columns, **kwargs))  # type: ignore[arg-type]
