"""The API's energy accounts. A part of telemetry/api.py, which calls it."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone
from ninja import Field, Query, Router, Schema

from fleet.api_errors import invalid
from fleet.models import Device
from telemetry import accounts
from telemetry.accounts import Account, Rates, Scope
from telemetry.api_questions import Moment, Span

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
    def fields_of(account: Account) -> dict[str, object]:
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


@router.get("/energy", response=EnergyAnswer)
def energy(request: HttpRequest, asked: Query[EnergyQuestion]) -> EnergyAnswer:
    """Account for energy: joules, kWh, cost and CO₂, in all and by group."""
    if asked.group_by and asked.group_by not in _GROUPS and not asked.group_by.removeprefix("label:").strip():
        raise invalid("group_by", "group_by: label: names no key")
    if asked.group_by and asked.group_by not in _GROUPS and not asked.group_by.startswith("label:"):
        raise invalid("group_by", f"group_by: expected {', '.join(_GROUPS)} or label:<key>, found {asked.group_by!r}")
    start_ms, end_ms = asked.milliseconds(timezone.now())
    rates = Rates.of_settings()
    zone = rates.tariff.zone if rates.tariff else ZoneInfo("UTC")
    devices = list(Device.objects.select_related("host"))
    found = accounts.accounts(
        devices, start_ms, end_ms, scope=asked.scope, group_by=asked.group_by, rates=rates, zone=zone
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
