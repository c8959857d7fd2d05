"""The API's energy accounts. A part of telemetry/api.py, which calls it."""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone
from ninja import Field, Query, Router, Schema

from fleet.api_errors import invalid
from fleet.models import Device
from telemetry import accounts, fleet_accounts, idle_accounts
from telemetry.accounts import Account, Rates, Scope
from telemetry.api_questions import Moment, Span
from telemetry.health.allocation import Allocated
from telemetry.idle_accounts import IdleAccount, Waste
from telemetry.store import idle_rows

router = Router()

_GROUPS = ("host", "device", "cluster", "model", "day")


class EnergyQuestion(Span):
    """Whole minutes of the span are counted. Days are those of the tariff's time zone, UTC without one."""

    start: Moment | None = None
    end: Moment | None = None
    group_by: str = Field("", description=f"{', '.join(_GROUPS)} or label:<key>; nothing for the total alone.")
    scope: Scope = Field(Scope.DEVICE, description="device, or node: a host as its own meter shows it. Never added.")


class EnergyAccount(Schema):
    """`joules` and what follows from them are null where nothing is known, `cost` and `grams_co2` where no price is set.

    `estimated_share` is the part that was taken from power, not from a counter; `covered_share` how much of the devices'
    time is known. Cost and CO₂ are those of the node's meter where a host has one, else of its devices: `priced_by`.
    """

    joules: float | None
    kwh: float | None
    estimated_share: float | None
    covered_share: float | None
    cost: float | None
    grams_co2: float | None
    priced_by: list[Scope]

    @staticmethod
    def fields_of(account: Account) -> dict[str, Any]:
        return {
            "joules": account.joules,
            "kwh": account.kwh,
            "estimated_share": account.estimated_share,
            "covered_share": account.covered_share,
            "cost": account.cost,
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
    """What devices drew below 5 % utilisation for over ten minutes; null where nothing is known, `cost` without a price."""

    joules: float | None
    kwh: float | None
    device_seconds: float | None
    cost: float | None

    @classmethod
    def of(cls, waste: Waste, *, is_known: bool) -> "IdleWaste":
        if not is_known:
            return cls(joules=None, kwh=None, device_seconds=None, cost=None)
        return cls(joules=waste.joules, kwh=waste.kwh, device_seconds=waste.seconds, cost=waste.cost)


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
            **IdleWaste.of(account.total, is_known=is_known).dict(),
            "known_device_seconds": account.known_seconds,
            **{state.value: IdleWaste.of(account.by_state[state], is_known=is_known) for state in Allocated},
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
def energy(request: HttpRequest, asked: Query[EnergyQuestion]) -> EnergyAnswer:
    """Account for energy: joules, kWh, cost and CO₂, in all and by group."""
    _check(asked.group_by)
    now = timezone.now()
    start_ms, end_ms = accounts.whole_minutes(*asked.milliseconds(now))
    rates = Rates.of_settings()
    zone = rates.tariff.zone if rates.tariff else ZoneInfo("UTC")
    found = fleet_accounts.fleet_accounts(
        start_ms, end_ms, now, scope=asked.scope, group_by=asked.group_by, rates=rates, zone=zone
    )
    return EnergyAnswer(
        start=datetime.fromtimestamp(start_ms / 1000, UTC),
        end=datetime.fromtimestamp(end_ms / 1000, UTC),
        scope=asked.scope,
        currency=settings.STEPWATT_CURRENCY or None,
        pue=rates.pue,
        total=EnergyAccount(**EnergyAccount.fields_of(found.total)),
        groups=[EnergyGroup(key=group.key, **EnergyAccount.fields_of(group)) for group in found.groups],
    )


@router.get("/energy/idle", response=IdleAnswer)
def idle_energy(request: HttpRequest, asked: Query[IdleQuestion]) -> IdleAnswer:
    """Account for idle waste: joules, kWh, time and cost, in all and by group, and by who had the devices."""
    _check(asked.group_by)
    start_ms, end_ms = idle_rows.whole_quarters(*asked.milliseconds(timezone.now()))
    rates = Rates.of_settings()
    zone = rates.tariff.zone if rates.tariff else ZoneInfo("UTC")
    devices = list(Device.objects.select_related("host"))
    found = idle_accounts.idle_accounts(devices, start_ms, end_ms, group_by=asked.group_by, rates=rates, zone=zone)
    return IdleAnswer(
        start=datetime.fromtimestamp(start_ms / 1000, UTC),
        end=datetime.fromtimestamp(end_ms / 1000, UTC),
        currency=settings.STEPWATT_CURRENCY or None,
        pue=rates.pue,
        total=IdleSplit(**IdleSplit.fields_of(found.total)),
        groups=[IdleGroup(key=group.key, **IdleSplit.fields_of(group)) for group in found.groups],
    )


def _check(group_by: str) -> None:
    """Raise ApiError where nothing can be grouped so."""
    if group_by.startswith("label:") and not group_by.removeprefix("label:").strip():
        raise invalid("group_by", "group_by: label: names no key")
    if group_by and group_by not in _GROUPS and not group_by.startswith("label:"):
        raise invalid("group_by", f"group_by: expected {', '.join(_GROUPS)} or label:<key>, found {group_by!r}")
