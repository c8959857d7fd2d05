"""Energy accounts of the whole fleet, at a cost that does not grow with it where no host or device stands alone. For the API.

The groups' rollups hold what their devices used and what their hosts are charged for (store/group_statistics.py). What is
still to be made of them is read from the hosts', and so is all of it where the inventory has just changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from django.conf import settings

from fleet.models import Device, Host
from telemetry.accounts import accounts
from telemetry.accounts.accounts import Accounts, Book, Scope
from telemetry.accounts.asked import Span, recorded
from telemetry.energy_rates import Rates
from telemetry.models import GroupKind, RollupGroup
from telemetry.store import energy_rows, group_energy, groups

_ALONE = {"host", "device"}


class HostRow(NamedTuple):
    name: str
    cluster: str
    labels: Mapping[str, Any]


@dataclass(slots=True)
class DeviceRow:
    """A device with what accounts ask of it: there are thousands, and a model takes twenty times as long to make."""

    pk: int
    uuid: str
    kind: str
    model: str
    parent_id: int | None
    profile: str
    index: int | None
    host_id: int
    host: HostRow


@dataclass(frozen=True, slots=True)
class Inventory:
    """All devices and hosts, whether the groups' rollups count just these (65 ms of a fleet of 10,000), and recordings."""

    devices: list[DeviceRow]
    host_ids: list[int]
    is_followed: bool
    recordings: Mapping[int, Span]


def look() -> Inventory:
    """Return the inventory as it stands now."""
    return Inventory(*_all(), groups.is_followed(), recorded())


def fleet_accounts(
    start_ms: int, end_ms: int, now: datetime, *, scope: Scope, group_by: str, rates: Rates, zone: ZoneInfo,
    seen: Inventory | None = None,
) -> Accounts:  # fmt: skip
    """Return what accounts.accounts returns of all devices; `seen` is for who asks more than once."""
    devices, host_ids = _all() if seen is None else (seen.devices, seen.host_ids)
    recordings = recorded() if seen is None else seen.recordings
    start_ms, end_ms = accounts.whole_minutes(start_ms, end_ms)
    quarters_ms = accounts.quarters_from_ms(group_by, rates, now)
    is_grouped = group_by not in _ALONE and (groups.is_followed() if seen is None else seen.is_followed)
    names = _names(group_by) if is_grouped else {}
    kept_ms = _kept_from_ms(now)
    stretches = (
        group_energy.stretches(names, start_ms, end_ms, kept_from_ms=kept_ms, quarters_from_ms=quarters_ms)
        if names
        else None
    )
    if stretches is None:
        return accounts.accounts(
            devices, start_ms, end_ms, now, scope=scope, group_by=group_by, rates=rates, zone=zone, recordings=recordings,
            host_ids=host_ids,
        )  # fmt: skip
    book = Book(devices, scope, group_by, rates, zone)
    book.expect(start_ms, end_ms, recordings)
    for stretch in stretches:
        if not stretch.is_of_groups:
            for rows in energy_rows.of_step(host_ids, *stretch[:3]):
                book.enter(rows)
            continue
        for group, found in group_energy.of_groups(names, stretch, is_of_nodes=scope is Scope.NODE).items():
            if names[group] is None:
                book.enter_fleet(found)
            else:
                book.enter_group(names[group] or "", found)
    return book.closed()


def _kept_from_ms(now: datetime) -> dict[int, int]:
    """Return from when on the groups' minutes and hours are kept, by step in seconds."""
    kept = {60: settings.STEPWATT_RETENTION_1M, 3600: settings.STEPWATT_RETENTION_1H}
    return {step: int((now.timestamp() - seconds) * 1000) for step, seconds in kept.items()}


def _names(group_by: str) -> dict[int, str | None]:
    """Return the groups by id with their keys in the accounts; None is the fleet's. Nothing where the store has none of these."""
    kept = RollupGroup.objects.filter(devices=groups.ACCOUNT)
    names: dict[int, str | None] = dict.fromkeys(kept.filter(kind=GroupKind.FLEET).values_list("pk", flat=True))
    if group_by in {"", "day"} or not names:
        return names
    kind, _, key = group_by.partition(":")
    of_kind = dict(kept.filter(kind=kind, key=key).values_list("pk", "value"))
    return {**names, **of_kind} if of_kind else {}


def all_devices() -> list[DeviceRow]:
    """Return the inventory's devices, in two queries."""
    return _all()[0]


def _all() -> tuple[list[DeviceRow], list[int]]:
    """Return the devices, and all hosts: one that has none any more keeps what its devices drew."""
    hosts = {pk: HostRow(*said) for pk, *said in Host.objects.order_by().values_list("pk", *HostRow._fields)}
    names = [field.name for field in fields(DeviceRow) if field.name != "host"]
    rows = Device.objects.order_by("pk").values_list(*names)
    whole = ((*said, hosts[said[-1]]) for said in rows if said[-1] in hosts)
    return [DeviceRow(*each) for each in whole], sorted(hosts)
