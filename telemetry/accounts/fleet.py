"""Energy accounts of the whole fleet, at a cost that does not grow with it where no host or device stands alone.

The groups' rollups hold what their devices used and what their hosts are charged for (store/group_statistics.py). What is
still to be made of them is read from the hosts', and so is all of it where the inventory has just changed. For API and pages.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from django.conf import settings

from fleet.models import Device, Host
from telemetry.accounts import accounts, group_names
from telemetry.accounts.account import Accounts, Scope
from telemetry.accounts.asked import Span, recorded
from telemetry.accounts.book import Book
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


@dataclass(frozen=True)
class Inventory:
    """All devices and hosts, whether the groups' rollups count just these, and recordings."""

    devices: list[DeviceRow]
    hosts: Mapping[int, HostRow]
    recordings: Mapping[int, Span]

    @cached_property
    def is_followed(self) -> bool:
        wholes = ((each.pk, each.host_id, each.kind, each.model) for each in self.devices if each.is_whole)
        says = ((pk, host.cluster, host.labels) for pk, host in self.hosts.items())
        return groups.is_followed(says, wholes)


def look() -> Inventory:
    """Return the inventory as it stands now."""
    hosts = _hosts()
    return Inventory(_devices(hosts), hosts, recorded())


def fleet_accounts(
    start_ms: int, end_ms: int, now: datetime, *, scope: Scope, group_by: str, rates: Rates, zone: ZoneInfo,
    seen: Inventory | None = None, cluster: str | None = None,
) -> Accounts:  # fmt: skip
    """Return what accounts.accounts returns of all devices, or of what they did in a `cluster`; `seen` is for who asks again.

    Within a cluster models and labels cost no more where groups stand for them (group_names.py).
    """
    seen = look() if seen is None else seen
    devices, hosts, recordings = seen.devices, seen.hosts, seen.recordings
    if cluster is not None:
        hosts = {pk: host for pk, host in hosts.items() if host.cluster == cluster}
        recordings = {pk: span for pk, span in recordings.items() if pk in hosts}
    start_ms, end_ms = accounts.whole_minutes(start_ms, end_ms)
    quarters_ms = accounts.quarters_from_ms(group_by, rates, now)
    names = _names(seen, scope, group_by, cluster)
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
            for key in names[group]:
                if key is None:
                    book.enter_fleet(found)
                else:
                    book.enter_group(key, found)
    return book.closed()


def _kept_from_ms(now: datetime) -> dict[int, int]:
    """Return from when on the groups' minutes and hours are kept, by step in seconds."""
    hours_ms = int((now.timestamp() - settings.STEPWATT_RETENTION_1H) * 1000)
    return {60: accounts.minutes_kept_from_ms(now), 3600: hours_ms}


def _names(seen: Inventory, scope: Scope, group_by: str, cluster: str | None) -> group_names.Names:
    """Return the groups to read, with their keys in the accounts; nothing where the hosts are to be read."""
    if group_by in _ALONE:
        return {}
    names = group_names.of_account(seen.devices, seen.hosts, scope, group_by, cluster)
    return names if names and seen.is_followed else {}


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
