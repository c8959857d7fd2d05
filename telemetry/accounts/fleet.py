"""Energy accounts of the whole fleet, at a cost that does not grow with it where no host or device stands alone.

The groups' rollups hold what their devices used and what their hosts are charged for (store/group_statistics.py). What is
still to be made of them is read from the hosts', and so is all of it where the inventory has just changed. For API and pages.
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
from telemetry.models import GroupKind, RollupGroup
from telemetry.prices.energy_rates import Rates
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

    @property
    def is_whole(self) -> bool:
        return self.parent_id is None and not self.profile


@dataclass(frozen=True, slots=True)
class Inventory:
    """All devices and hosts, whether the groups' rollups count just these, and recordings."""

    devices: list[DeviceRow]
    hosts: Mapping[int, HostRow]
    is_followed: bool
    recordings: Mapping[int, Span]


def look() -> Inventory:
    """Return the inventory as it stands now."""
    hosts = _hosts()
    devices = _devices(hosts)
    wholes = ((each.pk, each.host_id, each.kind, each.model) for each in devices if each.is_whole)
    says = ((pk, host.cluster, host.labels) for pk, host in hosts.items())
    return Inventory(devices, hosts, groups.is_followed(says, wholes), recorded())


def _look_at_devices() -> Inventory:
    """Return the inventory for who asks for no groups."""
    hosts = _hosts()
    return Inventory(_devices(hosts), hosts, is_followed=False, recordings=recorded())


def fleet_accounts(
    start_ms: int, end_ms: int, now: datetime, *, scope: Scope, group_by: str, rates: Rates, zone: ZoneInfo,
    seen: Inventory | None = None, cluster: str | None = None,
) -> Accounts:  # fmt: skip
    """Return what accounts.accounts returns of all devices, or of what they did in a `cluster`; `seen` is for who asks again.

    No groups within a cluster are kept: there only the whole and its days cost no more than those of the fleet.
    """
    is_alone = group_by in _ALONE or (cluster is not None and group_by not in {"", "day"})
    if seen is None:
        seen = _look_at_devices() if is_alone else look()
    devices, hosts, recordings = seen.devices, seen.hosts, seen.recordings
    if cluster is not None:
        hosts = {pk: host for pk, host in hosts.items() if host.cluster == cluster}
        recordings = {pk: span for pk, span in recordings.items() if pk in hosts}
    start_ms, end_ms = accounts.whole_minutes(start_ms, end_ms)
    quarters_ms = accounts.quarters_from_ms(group_by, rates, now)
    names = _names(group_by, cluster) if seen.is_followed and not is_alone else {}
    kept_ms = _kept_from_ms(now)
    split = rates.mixed_quarters(start_ms if recordings else max(start_ms, kept_ms[60]), end_ms)
    finer_ms = max(quarters_ms or 0, kept_ms[60] if split else 0)
    if any(begin < min(end, finer_ms, end_ms) and end > start_ms for begin, end in recordings.values()):
        names = {}  # what a time of day costs is known better of imported hosts, which keep their quarters and minutes
    stretches = (
        group_energy.stretches(names, start_ms, end_ms, kept_from_ms=kept_ms, quarters_from_ms=quarters_ms, split=split)
        if names
        else None
    )
    if stretches is None:
        return accounts.accounts(
            devices, start_ms, end_ms, now, scope=scope, group_by=group_by, rates=rates, zone=zone, recordings=recordings,
            hosts=hosts,
        )  # fmt: skip
    book = Book(devices, scope, group_by, rates, zone, hosts)
    book.expect(start_ms, end_ms, recordings)
    for stretch in stretches:
        if not stretch.is_of_groups:
            for rows in energy_rows.of_step(sorted(hosts), *stretch[:3]):
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
    hours_ms = int((now.timestamp() - settings.STEPWATT_RETENTION_1H) * 1000)
    return {60: accounts.minutes_kept_from_ms(now), 3600: hours_ms}


def _names(group_by: str, cluster: str | None) -> dict[int, str | None]:
    """Return the groups by id with their keys in the accounts; None is the whole. Nothing where the store has none of these."""
    kept = RollupGroup.objects.filter(devices=groups.ACCOUNT)
    whole = {"kind": GroupKind.FLEET} if cluster is None else {"kind": GroupKind.CLUSTER, "value": cluster}
    names: dict[int, str | None] = dict.fromkeys(kept.filter(**whole).values_list("pk", flat=True))
    if group_by in {"", "day"} or not names:
        return names
    kind, _, key = group_by.partition(":")
    of_kind = dict(kept.filter(kind=kind, key=key).values_list("pk", "value"))
    return {**names, **of_kind} if of_kind else {}


def all_devices() -> list[DeviceRow]:
    """Return the inventory's devices, in two queries."""
    return _devices(_hosts())


def _hosts() -> dict[int, HostRow]:
    """Return all hosts: one that has no devices any more keeps what they drew."""
    return {pk: HostRow(*said) for pk, *said in Host.objects.order_by().values_list("pk", *HostRow._fields)}


def _devices(hosts: Mapping[int, HostRow]) -> list[DeviceRow]:
    names = [field.name for field in fields(DeviceRow) if field.name != "host"]
    rows = Device.objects.order_by("pk").values_list(*names)
    return [DeviceRow(*(*said, hosts[said[-1]])) for said in rows if said[-1] in hosts]
