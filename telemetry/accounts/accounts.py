"""Energy accounts: joules, kWh, cost and CO₂ of hosts and devices over time, by group. Asked by the API and the power page.

Device and node energy are two scopes and never added: a node's meter holds its devices already, a GPU its MIG instances.
Devices are those that figures speak of: a host's accelerators, or its CPUs where it has none. A price is paid for what the
meter shows: of a host with a node meter that, of another its devices. PUE, the building's own use, comes on top once.

By host, cluster and label, joules and what they cost are those of the host that a device was with at the time, in the cluster
and with the labels that this host has now: what a device drew before it moved, or under an older name of its machine, stays
there. By device and model they go with the device. Which devices count is asked of the hosts as they are now.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db.models import Q

from fleet.models import DeviceStay, Host
from telemetry.accounts.account import Accounts, Scope
from telemetry.accounts.asked import Span, recorded
from telemetry.accounts.book import Book
from telemetry.accounts.members import AccountDevice, AccountHost
from telemetry.prices.energy_rates import Rates
from telemetry.store import energy_rows

_MANY = 500  # hosts: above it all are read rather than some named


def accounts(
    devices: Sequence[AccountDevice], start_ms: int, end_ms: int, now: datetime, *, scope: Scope, group_by: str, rates: Rates,
    zone: ZoneInfo, recordings: Mapping[int, Span] | None = None, hosts: Mapping[int, AccountHost] | None = None,
) -> Accounts:  # fmt: skip
    """Return the accounts of the devices' hosts over the whole minutes of the span.

    `group_by` is "" for none, host, device, cluster, model, day (of `zone`), or label:<key>. Cost and CO₂ are those of the
    group's share in what the meters show; a group within a host (a device, a model) has those of its own energy.
    `recordings` are asked.recorded(), and `hosts` hosts_with(devices), for who has them.
    """
    start_ms, end_ms = whole_minutes(start_ms, end_ms)
    hosts = hosts_with(devices) if hosts is None else hosts
    book, recordings = (
        Book(devices, scope, group_by, rates, zone, hosts),
        recorded() if recordings is None else recordings,
    )
    book.expect(start_ms, end_ms, recordings)
    from_ms, kept_ms = quarters_from_ms(group_by, rates, now), minutes_kept_from_ms(now)
    live, imported = sorted(hosts.keys() - recordings.keys()), sorted(hosts.keys() & recordings.keys())
    # Of imported hosts quarters and minutes are kept for ever.
    for some, cut_ms, since_ms in (
        (live, from_ms, max(start_ms, kept_ms)), (imported, None if from_ms is None else start_ms, start_ms)
    ):  # fmt: skip
        split = rates.mixed_quarters(since_ms, end_ms) if some else []
        for rows in energy_rows.read(some, start_ms, end_ms, quarters_from_ms=cut_ms, split=split) if some else ():
            book.enter(rows)
    return book.closed()


def hosts_with(devices: Iterable[AccountDevice]) -> dict[int, AccountHost]:
    """Return the devices' hosts by id, and those that devices have left, where what they drew before stands."""
    found: dict[int, AccountHost] = {device.host_id: device.host for device in devices}
    left = Q(devices=None) | Q(pk__in=DeviceStay.objects.order_by().values("host"))
    found |= (
        Host.objects.filter(left).exclude(pk__in=list(found)).in_bulk()
        if len(found) < _MANY
        else Host.objects.in_bulk()
    )
    return found


def quarters_from_ms(group_by: str, rates: Rates, now: datetime) -> int | None:
    """Return from when on quarters of an hour are read, as long as they are kept; None where hours will do.

    A band of the tariff, or a day of a time zone, may begin within an hour.
    """
    is_finer = group_by == "day" or (rates.tariff is not None and bool(rates.tariff.bands))
    return quarters_kept_from_ms(now) if is_finer else None


def quarters_kept_from_ms(now: datetime) -> int:
    """Return from when on quarters of an hour are kept, but for imported hosts', which are for ever."""
    return int((now.timestamp() - settings.STEPWATT_RETENTION_15M) * 1000)


def minutes_kept_from_ms(now: datetime) -> int:
    """Return the same of minutes."""
    return int((now.timestamp() - settings.STEPWATT_RETENTION_1M) * 1000)


def whole_minutes(start_ms: int, end_ms: int) -> tuple[int, int]:
    """Return the span of all minutes that the span touches."""
    return start_ms // 60_000 * 60_000, -(-end_ms // 60_000) * 60_000
