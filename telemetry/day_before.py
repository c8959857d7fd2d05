"""How the fleet stands to the day before: the last hour against the same hour then. Called by the fleet page's views.

It is measured when the tile of the energy is asked for, and kept: the tiles, which come every few seconds, only look it up.
"""

from dataclasses import dataclass

import numpy as np
from django.core.cache import cache

from telemetry import trends

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
_POINTS = 241  # as many as the chart has: of a small fleet the samples themselves
_KEPT_SECONDS = 600


@dataclass(frozen=True, slots=True)
class DayBefore:
    """`utilisation` is the mean's growth in shares (0.024: 2.4 points), `power` the sum's growth − 1; None where not known."""

    utilisation: float | None = None
    power: float | None = None


NOT_KNOWN = DayBefore()


def known(cluster: str | None) -> DayBefore:
    """Return what was measured last; nothing where that is long ago or never was."""
    found: DayBefore = cache.get(_key(cluster), NOT_KNOWN)
    return found


def measure(cluster: str | None, now_ms: int) -> DayBefore:
    """Measure it anew, for the fleet or a cluster, and keep it. Hosts without a cluster are no group that the store keeps."""
    if cluster == "":
        return NOT_KNOWN
    used, used_before = (_mean("gpu_utilization_ratio", cluster, end) for end in (now_ms, now_ms - DAY_MS))
    drawn, drawn_before = (_mean("power_draw_watts", cluster, end) for end in (now_ms, now_ms - DAY_MS))
    found = DayBefore(
        utilisation=None if used is None or used_before is None else used[0] - used_before[0],
        power=drawn[1] / drawn_before[1] - 1 if drawn and drawn_before and drawn_before[1] else None,
    )
    cache.set(_key(cluster), found, _KEPT_SECONDS)
    return found


def _mean(metric: str, cluster: str | None, end_ms: int) -> tuple[float, float] | None:
    """Return mean and sum across devices over the hour; None where it has a gap."""
    trend = trends.trend(metric, end_ms - HOUR_MS, end_ms, _POINTS, cluster=cluster or "")
    if "" not in trend.mean:
        return None
    mean, total = trend.mean[""], trend.total[""]
    is_known = ~np.isnan(mean)
    if is_known.mean() < 0.75:  # the newest buckets may be on their way
        return None
    return float(mean[is_known].mean()), float(total[is_known].mean())


def _key(cluster: str | None) -> str:
    return "day-before" if cluster is None else f"day-before:{cluster.encode().hex()}"
