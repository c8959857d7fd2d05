"""Series of devices, and trends across them, for charts and API. Asks the store; for the newest state see queries.py."""

from collections.abc import Sequence
from dataclasses import dataclass

from fleet.models import Device
from telemetry.store import read
from telemetry.store.read import Bucketed

MAX_POINTS = 4_000


def device_series(
    devices: Sequence[Device], metrics: Sequence[str], start_ms: int, end_ms: int, points: int
) -> Bucketed:
    """Return min, mean, max (counters: increase) per device and metric, at most `points` buckets."""
    return read.bucketed(devices, metrics, start_ms, end_ms, min(points, MAX_POINTS))


@dataclass(frozen=True, slots=True)
class Trend:
    """One metric over time per group: each list `(n_buckets,)`, None in a gap."""

    times_ms: list[int]
    step_seconds: float
    mean: dict[str, list[float | None]]
    p10: dict[str, list[float | None]]
    p90: dict[str, list[float | None]]
    total: dict[str, list[float | None]]


def trend(
    devices: Sequence[Device], metric: str, start_ms: int, end_ms: int, points: int, *, group_by: str = ""
) -> Trend:
    """Return mean, p10, p90 and sum of a gauge across the devices of each group.

    `group_by` is "" for one group, cluster, model, host, or label:<key>.
    A bucket speaks of the devices that gave a value in it: one that falls silent leaves the sum.
    """
    block = read.bucketed(devices, [metric], start_ms, end_ms, min(points, MAX_POINTS))
    groups: dict[str, list[str]] = {}
    for device in devices:
        groups.setdefault(_group_key(device, group_by), []).append(device.uuid)
    summaries = {key: read.across(block, metric, uuids) for key, uuids in sorted(groups.items())}
    return Trend(
        times_ms=block.times_ms,
        step_seconds=block.step_seconds,
        mean={key: summary.mean for key, summary in summaries.items()},
        p10={key: summary.p10 for key, summary in summaries.items()},
        p90={key: summary.p90 for key, summary in summaries.items()},
        total={key: summary.total for key, summary in summaries.items()},
    )


def _group_key(device: Device, group_by: str) -> str:
    match group_by:
        case "cluster":
            return device.host.cluster
        case "model":
            return device.model
        case "host":
            return device.host.name
        case _ if group_by.startswith("label:"):
            return str(device.host.labels.get(group_by.removeprefix("label:"), ""))
    return ""
