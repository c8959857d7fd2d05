"""The API's energy accounts. A part of telemetry/api/router.py, which calls it."""

from datetime import UTC, datetime
from typing import Any

import orjson
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from ninja import Field, Query, Router, Schema

from fleet.web.api_errors import invalid
from telemetry.accounts import accounts, fleet, idle
from telemetry.accounts.account import Account, Scope
from telemetry.accounts.idle import IdleAccount, Waste
from telemetry.api.questions import Moment, Span
from telemetry.health.allocation import Allocated
from telemetry.prices.energy_rates import Rates
from telemetry.series.trends import MAX_POINTS
from telemetry.store import idle_rows

router = Router()

_GROUPS = ("host", "device", "cluster", "model", "day")
_DAY_MS, _MOST_DAYS = 86_400_000, MAX_POINTS


class EnergyQuestion(Span):
    """Whole minutes of the span are counted. Days are those of the tariff's time zone, UTC without one."""

    start: Moment | None = None
    end: Moment | None = None
    group_by: str = Field("", description=f"{', '.join(_GROUPS)} or label:<key>; nothing for the total alone.")
    scope: Scope = Field(Scope.DEVICE, description="device, or node: a host as its own meter shows it. Never added.")


class EnergyAccount(Schema):
    """`joules` and what follows from them are null where nothing is known, `cost` and `grams_co2` where no price is set.

    `estimated_share` is the part that was taken from power, not from a counter; `covered_share` how much of the devices'
    time is known, that of recorded hosts being their recording's, and null where there is none, or a device moved within
    it. `unreadable` says where samples of the time cannot be read: what was not counted before is not covered; else it is
    null. Cost and CO₂ are those of the node's meter where a host has one, else of its devices: `priced_by`.
    `cost_estimated_share` is the part of the cost that is shared out by time: of buckets within which the price changes, and
    whose minutes are not stored any more; null without a cost. Energy is shared out, and so estimated, of the hour in which
    a day ends, where that is not on the hour and its quarters are not stored any more.
    """

    joules: float | None
    kwh: float | None
    estimated_share: float | None
    covered_share: float | None
    unreadable: str | None
    cost: float | None
    cost_estimated_share: float | None
    grams_co2: float | None
    priced_by: list[Scope]

    @staticmethod
    def fields_of(account: Account) -> dict[str, Any]:
        return {
            "joules": account.joules,
            "kwh": account.kwh,
            "estimated_share": account.estimated_share,
            "covered_share": account.covered_share,
            "unreadable": account.unread or None,
            "cost": account.cost,
            "cost_estimated_share": account.cost_estimated_share,
            "grams_co2": account.grams_co2,
            "priced_by": sorted(account.priced_by),
        }


class EnergyGroup(EnergyAccount):
    key: str


class EnergyAnswer(Schema):
    start: datetime
    end: datetime
    scope: Scope
    currency: str | None
    pue: float | None
    total: EnergyAccount
    groups: list[EnergyGroup]


class IdleQuestion(Span):
    """Whole quarters of an hour are counted, all that the span touches. Days are those of the tariff's time zone, or UTC."""

    start: Moment | None = None
    end: Moment | None = None
    group_by: str = Field("", description=f"{', '.join(_GROUPS)} or label:<key>; nothing for the total alone.")


class IdleWaste(Schema):
    """What devices drew below 5 % utilisation for over ten minutes; null where nothing is known, `cost` without a price.

    `estimated_share` is the part that is shared out by time: of the hour in which a day ends, where its quarters are not
    stored any more. `cost_estimated_share` is that of the cost, also of quarters within which the price changes.
    """

    joules: float | None
    kwh: float | None
    estimated_share: float | None
    device_seconds: float | None
    cost: float | None
    cost_estimated_share: float | None

    @staticmethod
    def parts_of(waste: Waste, *, is_known: bool) -> dict[str, float | None]:
        if not is_known:
            return dict.fromkeys(IdleWaste.model_fields)
        return {
            "joules": waste.joules,
            "kwh": waste.kwh,
            "estimated_share": waste.estimated_share,
            "device_seconds": waste.seconds,
            "cost": waste.cost,
            "cost_estimated_share": waste.cost_estimated_share,
        }


class IdleSplit(IdleWaste):
    """`allocated` to somebody who let them idle, `free` for anybody, `unknown` where neither is told.

    `known_device_seconds` are those of which both energy and utilisation are known.
    """

    known_device_seconds: float
    allocated: IdleWaste
    free: IdleWaste
    unknown: IdleWaste

    @staticmethod
    def fields_of(account: IdleAccount) -> dict[str, Any]:
        is_known = account.known_seconds > 0
        return {
            **IdleWaste.parts_of(account.total, is_known=is_known),
            "known_device_seconds": account.known_seconds,
            **{state.value: IdleWaste.parts_of(account.by_state[state], is_known=is_known) for state in Allocated},
        }


class IdleGroup(IdleSplit):
    key: str


class IdleAnswer(Schema):
    start: datetime
    end: datetime
    currency: str | None
    pue: float | None
    total: IdleSplit
    groups: list[IdleGroup]


@router.get("/energy", response=EnergyAnswer)
def energy(request: HttpRequest, asked: Query[EnergyQuestion]) -> HttpResponse:
    """Account for energy: joules, kWh, cost and CO₂, in all and by group."""
    now = timezone.now()
    start_ms, end_ms = accounts.whole_minutes(*asked.milliseconds(now))
    _check(asked.group_by, start_ms, end_ms)
    rates = Rates.in_force()
    found = fleet.fleet_accounts(
        start_ms, end_ms, now, scope=asked.scope, group_by=asked.group_by, rates=rates, zone=rates.zone
    )
    return _written(
        start_ms, end_ms, rates,
        scope=asked.scope,
        total=EnergyAccount.fields_of(found.total),
        groups=[{"key": group.key, **EnergyAccount.fields_of(group)} for group in found.groups],
    )  # fmt: skip


@router.get("/energy/idle", response=IdleAnswer)
def idle_energy(request: HttpRequest, asked: Query[IdleQuestion]) -> HttpResponse:
    """Account for idle waste: joules, kWh, time and cost, in all and by group, and by who had the devices."""
    now = timezone.now()
    start_ms, end_ms = idle_rows.whole_quarters(*asked.milliseconds(now))
    _check(asked.group_by, start_ms, end_ms)
    rates = Rates.in_force()
    devices = fleet.all_devices()
    found = idle.idle_accounts(devices, start_ms, end_ms, now, group_by=asked.group_by, rates=rates, zone=rates.zone)
    return _written(
        start_ms, end_ms, rates,
        total=IdleSplit.fields_of(found.total),
        groups=[{"key": group.key, **IdleSplit.fields_of(group)} for group in found.groups],
    )  # fmt: skip


def _written(start_ms: int, end_ms: int, rates: Rates, **answer: Any) -> HttpResponse:
    """Return the answer as it goes out: of ten thousand groups the schema's own check took longer than all else."""
    common = {
        "start": datetime.fromtimestamp(start_ms / 1000, UTC),
        "end": datetime.fromtimestamp(end_ms / 1000, UTC),
        "currency": rates.currency or None,
        "pue": rates.pue,
    }
    body = orjson.dumps(common | answer, option=orjson.OPT_UTC_Z)
    return HttpResponse(body, content_type="application/json; charset=utf-8")


def _check(group_by: str, start_ms: int, end_ms: int) -> None:
    """Raise ApiError where nothing can be grouped so, or by more days than an answer may hold."""
    if group_by == "day" and end_ms - start_ms > _MOST_DAYS * _DAY_MS:
        raise invalid("group_by", f"group_by: day: at most {_MOST_DAYS:,} days from start to end")
    if group_by.startswith("label:") and not group_by.removeprefix("label:").strip():
        raise invalid("group_by", "group_by: label: names no key")
    if group_by and group_by not in _GROUPS and not group_by.startswith("label:"):
        raise invalid("group_by", f"group_by: expected {', '.join(_GROUPS)} or label:<key>, found {group_by!r}")
