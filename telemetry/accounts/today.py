"""The energy of today so far, and of the day before up to the same time. Called by the fleet page's tile."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from fleet.pages.timerange import midnight
from telemetry.accounts.account import Account, Scope
from telemetry.accounts.fleet import Inventory, fleet_accounts, look
from telemetry.accounts.growth import growth
from telemetry.prices.energy_rates import Rates
from telemetry.series import trends
from telemetry.store.read import column

_POINTS = 60


@dataclass(frozen=True, slots=True)
class Today:
    """`growth` is over the day before by the same time, − 1, None where not known; `trend` sums up the power since midnight."""

    account: Account
    growth: float | None
    trend: Sequence[float | None]


def today(now: datetime, rates: Rates, cluster: str | None, seen: Inventory | None = None) -> Today:
    """Return the account since midnight in the tariff's zone, of the fleet or of a cluster; `seen` is for who has looked."""
    start = midnight(now, rates.zone)
    yesterday = midnight(start - timedelta(hours=12), rates.zone)
    seen = seen or look()
    account = _account(_ms(start), _ms(now), now, rates, cluster, seen)
    begins_ms = _ms(yesterday)  # hours that went by, not the clock's: a day after its change has as many of them
    before = _account(begins_ms, begins_ms + _ms(now) - _ms(start), now, rates, cluster, seen)
    return Today(account, growth(account, before), _sum_so_far(_ms(start), _ms(now), cluster))


def _account(start_ms: int, end_ms: int, now: datetime, rates: Rates, cluster: str | None, seen: Inventory) -> Account:
    found = fleet_accounts(
        start_ms, end_ms, now, scope=Scope.DEVICE, group_by="" if cluster is None else "cluster", rates=rates,
        zone=rates.zone, seen=seen,
    )  # fmt: skip
    if cluster is None:
        return found.total
    return found.of(cluster)


def _sum_so_far(start_ms: int, end_ms: int, cluster: str | None) -> Sequence[float | None]:
    """Return the joules since midnight by the drawn power: a gap adds none, and stays a gap."""
    trend = trends.within(cluster, "power_draw_watts", start_ms, end_ms, _POINTS)
    if "" not in trend.total:
        return ()
    watts = trend.total[""]
    summed = np.cumsum(np.nan_to_num(watts)) * trend.step_seconds
    return column(np.where(np.isnan(watts), np.nan, summed))


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
