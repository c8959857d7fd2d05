"""Series of devices, and trends across them, for charts and API. Asks the store; for the newest state see queries.py."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2s

from django.core.cache import caches
from django.db.models import QuerySet

from fleet.models import ACCELERATORS, Device, DeviceKind
from telemetry import catalog
from telemetry.models import GroupKind, RollupGroup
from telemetry.store import across, groups, read
from telemetry.store.across import Across
from telemetry.store.read import Bucketed
from telemetry.store.samples import Floats

MAX_POINTS = 4_000
SEEN_AGAIN_SECONDS = 1.0
_CACHE = "groups"  # of its own: others are emptied, or full, for reasons of theirs
_FINE_MS = 400 * 3_600_000  # of series: some 0.3 s of reading
_AS_MUCH_AS_METRICS = 4  # what a device's chunks cost before any of their metrics is read, in metrics
_KINDS = {groups.ACCELERATOR: ACCELERATORS, groups.CPU: (DeviceKind.CPU,), groups.NODE: (DeviceKind.NODE,)}


def device_series(
    devices: Sequence[Device], metrics: Sequence[str], start_ms: int, end_ms: int, points: int, *,
    is_fine: bool = False,
) -> Bucketed:  # fmt: skip
    """Return min, mean, max (counters: increase) per device and metric, at most `points` buckets.

    `is_fine` reads the samples themselves over a longer time where devices and metrics are few.
    """
    most = {"most_raw_ms": _FINE_MS} if is_fine and _is_little(devices, metrics, start_ms, end_ms) else {}
    return read.bucketed(devices, metrics, start_ms, end_ms, min(points, MAX_POINTS), **most)


def _is_little(devices: Sequence[Device], metrics: Sequence[str], start_ms: int, end_ms: int) -> bool:
    return len(devices) * (len(metrics) + _AS_MUCH_AS_METRICS) * (end_ms - start_ms) <= _FINE_MS


@dataclass(frozen=True, slots=True)
class Trend:
    """One metric over time per group: each `(n_buckets,)`, NaN in a gap. `n` is how many devices gave it."""

    times_ms: list[int]
    step_seconds: float
    n: dict[str, Floats]
    mean: dict[str, Floats]
    p10: dict[str, Floats]
    p90: dict[str, Floats]
    total: dict[str, Floats]

    @classmethod
    def of(cls, times_ms: list[int], step_seconds: float, found: dict[str, Across]) -> "Trend":
        columns = (
            {key: getattr(found[key], name) for key in sorted(found)} for name in ("n", "mean", "p10", "p90", "total")
        )
        return cls(times_ms, step_seconds, *columns)


def trend(
    metric: str, start_ms: int, end_ms: int, points: int, *, cluster: str = "", group_by: str = ""
) -> Trend:  # fmt: skip
    """Return mean, p10, p90 and sum of a gauge across the counted devices of each group.

    `group_by` is "" for one group, cluster, model, host, or label:<key>; `cluster` is all that is looked at, "" is the fleet.
    A bucket speaks of the devices that gave a value in it: one that falls silent leaves the sum. What it costs does not grow
    with the fleet, but where each host is a group, or a metric has no statistics across devices.
    """
    points = min(points, MAX_POINTS)
    counted, kept = _known(cluster, group_by, read.most_fine_hosts(start_ms, end_ms, points))
    if kept is None or not catalog.BY_NAME[metric].across:
        return _of_devices(_devices(cluster, counted), metric, start_ms, end_ms, points, group_by)
    grid, found = across.of_groups(kept, metric, start_ms, end_ms, points, now_ms=_now_ms())
    return Trend.of(grid.times_ms.tolist(), grid.step_ms / 1000, found)


def clusters() -> list[str]:
    """Return the clusters of the counted devices, by name."""
    counted = _counted("", groups.class_of_fleet())
    return list(counted.order_by("host__cluster").values_list("host__cluster", flat=True).distinct())


def _known(cluster: str, group_by: str, most_fine: int) -> tuple[str, dict[int, str] | None]:
    """Return what is counted and the groups kept of it, None where the devices are to be read themselves.

    As seen a second ago at most: a page asks for each of its charts.
    """
    key = blake2s(repr((cluster, group_by, most_fine)).encode()).hexdigest()
    known: tuple[str, dict[int, str] | None] | None = caches[_CACHE].get(key)
    if known is None:
        counted = groups.class_of_fleet(cluster)
        known = counted, None if _is_fine(cluster, counted, most_fine) else _kept_groups(cluster, group_by, counted)
        caches[_CACHE].set(key, known, SEEN_AGAIN_SECONDS)
    return known


def _is_fine(cluster: str, counted: str, most_hosts: int) -> bool:
    """Tell whether so few hosts have a part in it. One that is no more is not looked for: there may be thousands."""
    hosts = _counted(cluster, counted).order_by().values("host").distinct()
    return most_hosts >= 0 and len(hosts[: most_hosts + 1]) <= most_hosts


def _kept_groups(cluster: str, group_by: str, counted: str) -> dict[int, str] | None:
    """Return the groups by id, of which the store keeps statistics, with their names; None where it keeps none of these."""
    kept = RollupGroup.objects.filter(devices=counted)
    if group_by in {"", "cluster"} and (cluster or group_by):
        kept = kept.filter(kind=GroupKind.CLUSTER, **({"value": cluster} if cluster else {}))
    elif not group_by:
        kept = kept.filter(kind=GroupKind.FLEET)
    elif cluster or group_by == "host":
        return None
    elif group_by == "model":
        kept = kept.filter(kind=GroupKind.MODEL)
    else:
        kept = kept.filter(kind=GroupKind.LABEL, key=group_by.removeprefix("label:"))
    return {pk: value if group_by else "" for pk, value in kept.values_list("pk", "value")}


def _devices(cluster: str, counted: str) -> list[Device]:
    return list(_counted(cluster, counted).select_related("host"))


def _counted(cluster: str, counted: str) -> QuerySet[Device]:
    found = Device.objects.filter(groups.whole_devices(), kind__in=_KINDS[counted])
    return found.filter(host__cluster=cluster) if cluster else found


def _of_devices(
    devices: Sequence[Device], metric: str, start_ms: int, end_ms: int, points: int, group_by: str
) -> Trend:  # fmt: skip
    block = read.bucketed(devices, [metric], start_ms, end_ms, points)
    uuids: dict[str, list[str]] = {}
    for device in devices:
        uuids.setdefault(_group_key(device, group_by), []).append(device.uuid)
    now_ms = _now_ms()
    found = {key: across.of_devices(block, metric, of_group, now_ms=now_ms) for key, of_group in uuids.items()}
    return Trend.of(block.times_ms, block.step_seconds, found)


def _now_ms() -> int:
    return round(time.time() * 1000)


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
