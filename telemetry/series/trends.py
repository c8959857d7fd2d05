"""Series of devices, and trends across them, for charts and API. Asks the store; for the newest state see queries.py."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2s

from django.core.cache import caches
from django.db.models import QuerySet

from fleet.models import Device, DeviceStay
from telemetry import catalog
from telemetry.models import GroupKind, RollupGroup
from telemetry.series import counted as counting
from telemetry.store import across, group_stays, read
from telemetry.store.across import Across
from telemetry.store.group_stays import Asked
from telemetry.store.read import Bucketed
from telemetry.store.resolution import MINUTE_MS
from telemetry.store.samples import Floats

MAX_POINTS = 4_000
SEEN_AGAIN_SECONDS = 1.0
_CACHE = "groups"  # of its own: others are emptied, or full, for reasons of theirs
_FINE_MS = 400 * 3_600_000  # of series: some 0.3 s of reading
_AS_MUCH_AS_METRICS = 4  # what a device's chunks cost before any of their metrics is read, in metrics


def device_series(
    devices: Sequence[Device], metrics: Sequence[str], start_ms: int, end_ms: int, points: int, *,
    is_fine: bool = False,
) -> Bucketed:  # fmt: skip
    """Return min, mean, max (counters: increase) per device and metric, at most `points` buckets.

    `is_fine` reads the samples themselves over a longer time where devices and metrics are few.
    """
    is_fine = is_fine and _is_little(devices, metrics, start_ms, end_ms)
    most_raw_ms = _FINE_MS if is_fine else read.RAW_HOST_MS
    return read.bucketed(devices, metrics, start_ms, end_ms, min(points, MAX_POINTS), most_raw_ms=most_raw_ms)


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
    p50: dict[str, Floats]
    p90: dict[str, Floats]
    total: dict[str, Floats]

    @classmethod
    def of(cls, times_ms: list[int], step_seconds: float, found: dict[str, Across]) -> "Trend":
        columns = (
            {key: getattr(found[key], name) for key in sorted(found)}
            for name in ("n", "mean", "p10", "p50", "p90", "total")
        )
        return cls(times_ms, step_seconds, *columns)


def trend(
    metric: str, start_ms: int, end_ms: int, points: int, *, cluster: str = "", group_by: str = ""
) -> Trend:  # fmt: skip
    """Return mean, p10, p50, p90 and sum of a gauge across the counted devices of each group.

    `group_by` is "" for one group, cluster, model, host, or label:<key>; `cluster` is all that is looked at, "" is the fleet.
    A bucket speaks of the devices that gave a value in it: one that falls silent leaves the sum. In a group of hosts (all but
    those of a model) stands what a device did while it was with one of these. What it costs does not grow with the fleet,
    but where each host is a group, a metric has no statistics across devices, or a group of a cluster is also in others.
    """
    return within(cluster or None, metric, start_ms, end_ms, points, group_by)


def within(
    cluster: str | None, metric: str, start_ms: int, end_ms: int, points: int, group_by: str = ""
) -> Trend:  # fmt: skip
    """Return what `trend` does, where the fleet is None and "" are the hosts without a cluster."""
    points = min(points, MAX_POINTS)
    counted, kept = _known(cluster, group_by, read.most_fine_hosts(start_ms, end_ms, points), start_ms)
    if kept is None or not catalog.BY_NAME[metric].across:
        asked = Asked(counting.devices(None, counted), cluster, group_by)
        return _of_devices(asked, metric, start_ms, end_ms, points)
    grid, found = across.of_groups(kept, metric, start_ms, end_ms, points, now_ms=_now_ms())
    return Trend.of(grid.times_ms.tolist(), grid.step_ms / 1000, found)


def clusters(since_ms: int) -> list[str]:
    """Return the clusters of the counted devices, by name, also of those that have left one since."""
    counted = counting.class_of(None)
    here = counting.devices(None, counted).order_by().values_list("host__cluster", flat=True).distinct()
    return sorted({*here, *(each.host.cluster for each in counting.left(None, since_ms, counted))})


def clusters_left(since_ms: int) -> set[str]:
    """Return the clusters that counted devices have left since, for who knows the others."""
    return {each.host.cluster for each in counting.left(None, since_ms, counting.class_of(None))}


def _known(cluster: str | None, group_by: str, most_fine: int, since_ms: int) -> tuple[str, dict[int, str] | None]:
    """Return what is counted and the groups kept of it, None where the devices are to be read themselves.

    As seen a second ago at most: a page asks for each of its charts. The fleet counts the same at any time, a cluster may not.
    """
    since_minute = None if cluster is None else since_ms // MINUTE_MS
    key = blake2s(repr((cluster, group_by, most_fine, since_minute)).encode()).hexdigest()
    known: tuple[str, dict[int, str] | None] | None = caches[_CACHE].get(key)
    if known is None:
        counted = counting.class_of(cluster, since_ms)
        is_fine = _is_fine(cluster, counted, most_fine, since_ms)
        known = counted, None if is_fine else _kept_groups(cluster, group_by, counted)
        caches[_CACHE].set(key, known, SEEN_AGAIN_SECONDS)
    return known


def _is_fine(cluster: str | None, counted: str, most_hosts: int, since_ms: int) -> bool:
    """Tell whether so few hosts have a part in it. One that has none any more is looked for only where no other has."""
    if most_hosts < 0:
        return False
    hosts = counting.devices(cluster, counted).order_by().values("host").distinct()
    n = len(hosts[: most_hosts + 1]) or len({each.host.pk for each in counting.left(cluster, since_ms, counted)})
    return n <= most_hosts


def _kept_groups(cluster: str | None, group_by: str, counted: str) -> dict[int, str] | None:
    """Return the groups by id, of which the store keeps statistics, with their names; None where it keeps none of these."""
    kept = RollupGroup.objects.filter(devices=counted)
    if group_by in {"", "cluster"} and (cluster is not None or group_by):
        kept = kept.filter(kind=GroupKind.CLUSTER, **({} if cluster is None else {"value": cluster}))
    elif not group_by:
        kept = kept.filter(kind=GroupKind.FLEET)
    elif group_by == "host":
        return None
    elif cluster is not None:
        return _kept_within(kept, cluster, group_by, counted)
    elif group_by == "model":
        kept = kept.filter(kind=GroupKind.MODEL)
    else:
        kept = kept.filter(kind=GroupKind.LABEL, key=group_by.removeprefix("label:"))
    return {pk: value if group_by else "" for pk, value in kept.values_list("pk", "value")}


def _kept_within(
    kept: QuerySet[RollupGroup], cluster: str, group_by: str, counted: str
) -> dict[int, str] | None:  # fmt: skip
    """Return the groups that stand for those of a cluster: itself where it is all one, else those that lie in it whole.

    None where one of them is also in another cluster, or where devices came or left: the store does not tell these parts apart.
    """
    if DeviceStay.objects.filter(host__cluster=cluster).exists():
        return None
    is_model, label = group_by == "model", group_by.removeprefix("label:")
    said = (
        counting.devices(None, counted).order_by().values_list("host__cluster", "model" if is_model else "host__labels")
    )
    pairs = {(place, name if is_model else str(name.get(label, ""))[:500]) for place, name in said.distinct()}
    here = {name for place, name in pairs if place == cluster}
    if len(here) == 1:
        own = kept.filter(kind=GroupKind.CLUSTER, value=cluster)
        return dict.fromkeys(own.values_list("pk", flat=True), here.pop())
    if here & {name for place, name in pairs if place != cluster}:
        return None
    kind = {"kind": GroupKind.MODEL} if is_model else {"kind": GroupKind.LABEL, "key": label}
    return dict(kept.filter(**kind, value__in=here).values_list("pk", "value"))


def _of_devices(asked: Asked, metric: str, start_ms: int, end_ms: int, points: int) -> Trend:
    begin_ms = start_ms - read.longest_ms(start_ms, end_ms, points)  # the first bucket began before the start
    members = list(group_stays.members(asked, begin_ms, end_ms))
    moves = {each.device.uuid: each.moves for each in members if each.moves is not None}
    block = read.bucketed([each.device for each in members], [metric], start_ms, end_ms, points, parts=moves)
    rows: dict[str, list[Floats]] = {}
    for device, group, parts in members:
        series = {group: block.series.get(device.uuid, {})}
        if parts is not None:
            series = {name: block.parts.get((device.uuid, name), {}) for name in parts}
        for name, found in series.items():
            of_group = rows.setdefault(name, [])
            if metric in found:
                of_group.append(found[metric].mean)
    now_ms = _now_ms()
    made = {name: across.of_series(block.times_ms, each, now_ms=now_ms) for name, each in rows.items()}
    return Trend.of(block.times_ms, block.step_seconds, made)


def _now_ms() -> int:
    return round(time.time() * 1000)
