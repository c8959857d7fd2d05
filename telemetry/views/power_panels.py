"""The panels that the power page fetches: energy by day, energy by group, idle waste by group. Each also as CSV."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from fleet import units
from fleet.inventory import clusters
from fleet.pages import sorting
from fleet.web.csv_answer import csv_answer
from telemetry.accounts import power_report
from telemetry.accounts.account import Account
from telemetry.accounts.idle import IdleAccount
from telemetry.health.allocation import Allocated
from telemetry.prices.energy_rates import Rates
from telemetry.views.power import COST_ESTIMATED, by_of, window_of

PAGE_SIZE = 50
_BARS = 8
_ROUND = (1, 2, 4, 5, 10)  # of a power of ten: where an axis may end, as half of it is round, too


@dataclass(frozen=True, slots=True)
class Day:
    """`idle` is None where nothing is known of it; `height` is a share of the axis."""

    account: Account
    idle: float | None
    height: float
    is_today: bool

    @property
    def words(self) -> str:
        """Return "Sat 28 Nov"."""
        day = date.fromisoformat(self.account.key)
        return f"{day:%a} {day.day} {day:%b}"

    @property
    def short_words(self) -> str:
        return self.words.rpartition(" ")[0]

    @property
    def title(self) -> str:
        return f"{self.words}: {units.quantity(self.account.kwh, 'kWh')}"

    @property
    def idle_share(self) -> float | None:
        return self.idle / self.account.joules if self.idle is not None and self.account.joules else None

    @property
    def percent(self) -> int:
        return round(100 * self.height)

    @property
    def idle_percent(self) -> int:
        return round(100 * self.height * (self.idle_share or 0))

    @property
    def working_percent(self) -> int:
        return self.percent - self.idle_percent

    @property
    def idle_top(self) -> int:
        return 100 - self.percent

    @property
    def working_top(self) -> int:
        return 100 - self.working_percent


@dataclass(frozen=True, slots=True)
class Axis:
    """From 0 to `top`, joules; `ticks` are the words at the top, half way and at 0."""

    top: float
    ticks: tuple[str, str, str]


@require_safe
def days(request: HttpRequest) -> HttpResponse:
    """Energy of each of the last days, and which part of it was idle waste."""
    now, rates, cluster = timezone.now(), Rates.in_force(), clusters.of_query(request.GET)
    by_day = power_report.energy_by_day(now, rates, cluster)
    span = power_report.first_day_ms(now, rates), round(now.timestamp() * 1000)
    wasted = power_report.idle(*span, now, rates, "day", cluster)
    idle = {group.key: group for group in wasted.groups}
    axis = axis_of(max((group.joules or 0 for group in by_day.groups), default=0))
    found = [_day(account, idle.get(account.key), axis, account is by_day.groups[-1]) for account in by_day.groups]
    if request.GET.get("format") == "csv":
        rows = ((*_of_account(day.account), day.idle, day.idle_share) for day in found)
        return csv_answer("energy-by-day", ("day", *_ACCOUNT, "idle_joules", "idle_ratio"), rows)
    context = {"days": found, "axis": axis, "zone": rates.zone, **_money(rates)}
    return render(request, "telemetry/_power_days.html", context)


def axis_of(most: float) -> Axis:
    """Return an axis that ends on a round number at or above the greatest day's energy."""
    size, unit = (3.6e9, "MWh") if most >= 3.6e10 else (3.6e6, "kWh")  # as the table below, while that is readable
    power = 10.0 ** math.floor(math.log10(most / size)) if most > 0 else 1.0
    top = next(step * power for step in _ROUND if step * power * size >= most)
    return Axis(top * size, (str(units.Quantity(f"{top:,g}", unit)), f"{top / 2:,g}", "0"))


def _day(account: Account, idle: IdleAccount | None, axis: Axis, is_today: bool) -> Day:
    known = idle.total.joules if idle and idle.known_seconds else None
    return Day(account, known, (account.joules or 0) / axis.top, is_today)


_ACCOUNT = (
    "joules",
    "kwh",
    "estimated_ratio",
    "covered_ratio",
    "cost",
    "grams_co2",
    "cost_estimated_ratio",
    "unreadable",
)
_KEYS: Mapping[str, Callable[[Account], Any]] = {
    "group": lambda account: account.key,
    "energy": lambda account: account.joules,
    "cost": lambda account: account.cost,
    "co2": lambda account: account.grams_co2,
    "covered": lambda account: account.covered_share,
}


def _of_account(account: Account) -> tuple[object, ...]:
    return (account.key, account.joules, account.kwh, account.estimated_share, account.covered_share, account.cost,
            account.grams_co2, account.cost_estimated_share, account.unread)  # fmt: skip


@require_safe
def groups(request: HttpRequest) -> HttpResponse:
    """Energy, cost and CO₂ of each group over the time of the page."""
    now, by, rates = timezone.now(), by_of(request.GET), Rates.in_force()
    order = sorting.of_query(request.GET, _KEYS, "-energy")
    accounts = power_report.energy(window_of(request.GET, now), now, rates, by, clusters.of_query(request.GET))
    found = order.arranged(accounts.groups, _KEYS[order.key])
    if request.GET.get("format") == "csv":
        return csv_answer("energy-by-group", (by, *_ACCOUNT), map(_of_account, found))
    page = Paginator(found, PAGE_SIZE).get_page(request.GET.get("page"))
    context = {"rows": page, "page": page, "by": by, "sorting": order, **_money(rates)}
    return render(request, "telemetry/_power_groups.html", context)


@require_safe
def idle(request: HttpRequest) -> HttpResponse:
    """What devices drew while they did nothing, by group, and out of band the tile of the whole."""
    now = timezone.now()
    window, by, rates = window_of(request.GET, now), by_of(request.GET), Rates.in_force()
    found = power_report.idle(window.start_ms, window.end_ms, now, rates, by, clusters.of_query(request.GET))
    ordered = sorted(found.groups, key=lambda group: -group.total.joules)
    if request.GET.get("format") == "csv":
        return csv_answer("idle-waste", (by, *_IDLE), map(_of_idle, ordered))
    context = {
        "bars": _bars([group for group in ordered if group.total.joules]),
        "total": found.total,
        "is_known": found.total.known_seconds > 0,
        "window": window,
        "by": by,
        "states": [(state.value, found.total.by_state[state]) for state in Allocated],
        **_money(rates),
    }
    return render(request, "telemetry/_power_idle.html", context)


@dataclass(frozen=True, slots=True)
class Bar:
    name: str
    joules: float
    share: float


def _bars(found: Sequence[IdleAccount]) -> list[Bar]:
    """Return the greatest; the share is of the greatest of all."""
    return [
        Bar(group.key or "none", group.total.joules, group.total.joules / found[0].total.joules)
        for group in found[:_BARS]
    ]


_IDLE = ("known_device_seconds", "joules", "device_seconds", "cost", *(f"{state.value}_joules" for state in Allocated))


def _of_idle(group: IdleAccount) -> tuple[object, ...]:
    if not group.known_seconds:
        return (group.key, 0.0, *[None] * (3 + len(Allocated)))
    total = group.total
    parts = (group.by_state[state].joules for state in Allocated)
    return (group.key, group.known_seconds, total.joules, total.seconds, total.cost, *parts)


def _money(rates: Rates) -> dict[str, object]:
    """Return what is paid in, and whether a price and a figure for CO₂ are set."""
    return {
        "currency": rates.currency,
        "has_price": rates.tariff is not None,
        "has_co2": rates.grams_co2_per_kwh is not None,
        "cost_estimated": COST_ESTIMATED,
    }
