"""How the fleet stands to the day before: the last hour against the same hour then. Called by the fleet page's views.

It is measured when the tile of the energy is asked for, and kept: the tiles, which come every few seconds, only look it up.
Where power is summed of accelerators and of the CPUs of other hosts, no group of the store has the power of both: it is
compared by what they used, which is accounted of the same devices.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from django.core.cache import cache

from telemetry.accounts.account import Scope
from telemetry.accounts.fleet import Inventory, fleet_accounts
from telemetry.accounts.growth import growth
from telemetry.prices.energy_rates import Rates
from telemetry.series import trends

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
_POINTS = 241  # as many as the chart has: of a small fleet the samples themselves
_KEPT_SECONDS = 600
_ENOUGH = 0.75  # of an hour that must be known


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


def measure(cluster: str | None, now_ms: int, mixed: Inventory | None = None) -> DayBefore:
    """Measure it anew, for the fleet or a cluster, and keep it; `mixed` is the inventory where power is summed of two kinds."""
    used, used_before = (_mean("gpu_utilization_ratio", cluster, end) for end in (now_ms, now_ms - DAY_MS))
    found = DayBefore(
        utilisation=None if used is None or used_before is None else used[0] - used_before[0],
        power=_power(cluster, now_ms) if mixed is None else _power_of_both(cluster, now_ms, mixed),
    )
    cache.set(_key(cluster), found, _KEPT_SECONDS)
    return found


def _power(cluster: str | None, now_ms: int) -> float | None:
    drawn, before = (_mean("power_draw_watts", cluster, end) for end in (now_ms, now_ms - DAY_MS))
    return drawn[1] / before[1] - 1 if drawn and before and before[1] else None


def _power_of_both(cluster: str | None, now_ms: int, seen: Inventory) -> float | None:
    now, rates = datetime.fromtimestamp(now_ms / 1000, UTC), Rates(None, None, None)
    drawn, before = (
        fleet_accounts(
            end_ms - HOUR_MS, end_ms, now, scope=Scope.DEVICE, group_by="", rates=rates, zone=rates.zone, seen=seen,
            cluster=cluster,
        ).total
        for end_ms in (now_ms, now_ms - DAY_MS)
    )  # fmt: skip
    return growth(drawn, before, _ENOUGH)


def _mean(metric: str, cluster: str | None, end_ms: int) -> tuple[float, float] | None:
    """Return mean and sum across devices over the hour; None where it has a gap."""
    trend = trends.within(cluster, metric, end_ms - HOUR_MS, end_ms, _POINTS)
    if "" not in trend.mean:
        return None
    mean, total = trend.mean[""], trend.total[""]
    is_known = ~np.isnan(mean)
    if is_known.mean() < _ENOUGH:  # the newest buckets may be on their way
        return None
    return float(mean[is_known].mean()), float(total[is_known].mean())


def _key(cluster: str | None) -> str:
    return "day-before" if cluster is None else f"day-before:{cluster.encode().hex()}"
