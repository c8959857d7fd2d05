"""The figures of the power page: the energy of a time, what it cost, and what idle devices wasted of it. Views ask and render.

The energy is that of the groups' accounts, and kept for half a minute, that of a day or more for some minutes; idle waste reads
the hosts' quarters of an hour, and is kept for some minutes.
"""

from datetime import datetime, timedelta
from hashlib import sha256

from django.core.cache import cache

from fleet.pages.timerange import TimeRange, midnight
from telemetry.accounts import accounts, fleet
from telemetry.accounts import idle as idle_accounts
from telemetry.accounts.account import Account, Accounts, Scope
from telemetry.accounts.idle import IdleAccounts
from telemetry.health import thresholds
from telemetry.prices.energy_rates import Rates
from telemetry.store import idle_quarters, idle_rows

_KEPT_SECONDS, _ENERGY_SECONDS = 300, 30
_DAY_MS = 86_400_000
DAYS = 14


def budget_watts(cluster: str | None = None) -> float | None:
    """Return the power budget of the whole fleet, or of a cluster; None where nobody has set one."""
    limits = thresholds.in_force().get("power_budget", {})
    return limits.get("watts" if cluster is None else f"watts:{cluster}")


def energy(window: TimeRange, now: datetime, rates: Rates, group_by: str = "", cluster: str | None = None) -> Accounts:
    return _accounts(window.start_ms, window.end_ms, now, rates, group_by, cluster)


def energy_before(window: TimeRange, now: datetime, rates: Rates, cluster: str | None = None) -> Account:
    """Return the account of the time of the same length before the window."""
    length = window.end_ms - window.start_ms
    return _accounts(window.start_ms - length, window.start_ms, now, rates, "", cluster).total


def energy_by_day(now: datetime, rates: Rates, cluster: str | None = None) -> Accounts:
    """Return the accounts of the last days, today's so far among them."""
    return _accounts(first_day_ms(now, rates), round(now.timestamp() * 1000), now, rates, "day", cluster)


def first_day_ms(now: datetime, rates: Rates) -> int:
    """Return the midnight at which the last days begin, in the zone of the tariff."""
    return round((midnight(now, rates.zone) - timedelta(days=DAYS - 1)).timestamp() * 1000)


def idle(
    start_ms: int, end_ms: int, now: datetime, rates: Rates, group_by: str, cluster: str | None = None
) -> IdleAccounts:  # fmt: skip
    """Return the idle waste of whole quarters of an hour, as it was some minutes ago at the latest."""
    start_ms, end_ms = idle_rows.whole_quarters(start_ms, end_ms)
    key = _key("power-idle", start_ms, end_ms, group_by, rates, cluster)
    found: IdleAccounts | None = cache.get(key)
    if found is None:
        found = idle_accounts.idle_accounts(
            fleet.all_devices(), start_ms, end_ms, now, group_by=group_by, rates=rates, zone=rates.zone, cluster=cluster
        )
        cache.set(key, found, _KEPT_SECONDS)
    return found


def _accounts(
    start_ms: int, end_ms: int, now: datetime, rates: Rates, group_by: str = "", cluster: str | None = None
) -> Accounts:  # fmt: skip
    """Return the accounts of whole minutes, of a day or more in whole quarters of an hour, as they were some time ago at most.

    Many look at once, and a month of 10,000 devices takes some 50 ms to add up. Of a cluster alone they are those by cluster.
    """
    if cluster is not None and group_by in {"", "cluster"}:
        own = _accounts(start_ms, end_ms, now, rates, "cluster").of(cluster)
        return Accounts(own, [own])
    is_long = end_ms - start_ms >= _DAY_MS
    whole, seconds = (_whole_quarters, _KEPT_SECONDS) if is_long else (accounts.whole_minutes, _ENERGY_SECONDS)
    start_ms, end_ms = whole(start_ms, end_ms)
    key = _key("power-energy", start_ms, end_ms, group_by, rates, cluster)
    found: Accounts | None = cache.get(key)
    if found is None:
        found = fleet.fleet_accounts(
            start_ms, end_ms, now, scope=Scope.DEVICE, group_by=group_by, rates=rates, zone=rates.zone, cluster=cluster
        )
        cache.set(key, found, seconds)
    return found


def _whole_quarters(start_ms: int, end_ms: int) -> tuple[int, int]:
    """Return the window with both ends back at whole quarters: ranges stay as long as they are, days begin at midnight."""
    quarter_ms = idle_quarters.QUARTER_MS
    return start_ms // quarter_ms * quarter_ms, end_ms // quarter_ms * quarter_ms


def _key(what: str, *asked: object) -> str:
    return f"{what}:{sha256(repr(asked).encode()).hexdigest()}"
