"""Which host had which device when. Asked wherever the store looks up by host what a device did.

What a host says of a device counts for the time of its stay there: before and after, another one's word does. Of a device
that was never with another host nothing is kept here, and it costs no query.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from django.db.models import Q

from fleet.models import Device, DeviceKind, DeviceStay
from telemetry.store.spans import Spans

FAR_MS = 2**62
_MANY = 1000  # devices: above it all stays are read rather than those of some named, of which a statement holds so many


class Stay(NamedTuple):
    """A device was with the host for from ≤ t < until."""

    host_id: int
    from_ms: int
    until_ms: int


@dataclass(slots=True)
class Holding:
    """The devices that one host has or had: ids by uuid; of those that have moved, `spans` by uuid say when they were there."""

    ids: dict[str, int] = field(default_factory=dict)
    spans: dict[str, Spans] = field(default_factory=dict)

    def add(self, uuid: str, pk: int, stay: Stay | None) -> None:
        """Add a device: None is for one that was never elsewhere."""
        self.ids[uuid] = pk
        if stay is not None:
            self.spans[uuid] = (*self.spans.get(uuid, ()), (stay.from_ms, stay.until_ms))

    def only(self, uuids: Collection[str]) -> "Holding":
        """Return it without all other devices than these."""
        return self.without(self.ids.keys() - set(uuids))

    def without(self, uuids: Collection[str]) -> "Holding":
        """Return it without these devices."""
        ids = {uuid: pk for uuid, pk in self.ids.items() if uuid not in uuids}
        return Holding(ids, {uuid: spans for uuid, spans in self.spans.items() if uuid in ids})

    @property
    def moved(self) -> set[int]:
        return {self.ids[uuid] for uuid in self.spans}

    def covers(self, uuid: str, start_ms: int, end_ms: int) -> bool:
        """Tell whether the device was there for all of start ≤ t ≤ end."""
        if uuid not in self.spans:
            return uuid in self.ids
        return any(since <= start_ms and end_ms < until for since, until in self.spans[uuid])


def of_devices(devices: Collection[Device], start_ms: int, end_ms: int) -> dict[int, list[Stay]]:
    """Return the stays by device id that lie in start ≤ t < end, in order; of each device at least that of its present host.

    One query, none where all of them have been where they are since the start.
    """
    found = {device.pk: [_present(device)] for device in devices}
    moved = {device.pk for device in devices if device.moved_ms is not None and device.moved_ms > start_ms}
    if moved:
        for pk, stays in of_moved(moved).items():
            found[pk] = [each for each in stays if each.from_ms < end_ms and each.until_ms > start_ms] or found[pk]
    return found


def hosts_of(devices: Collection[Device], start_ms: int, end_ms: int) -> set[int]:
    """Return the hosts that had any of the devices in start ≤ t < end, and those that have them."""
    then = {stay.host_id for stays in of_devices(devices, start_ms, end_ms).values() for stay in stays}
    return then | {device.host_id for device in devices}


def by_host(devices: Sequence[Device], start_ms: int, end_ms: int) -> dict[int, Holding]:
    """Return, of these devices, what each host had of them in start ≤ t < end."""
    found: dict[int, Holding] = {}
    stays = of_devices(devices, start_ms, end_ms)
    for device in devices:
        for stay in stays[device.pk]:
            limits = None if device.moved_ms is None else stay
            found.setdefault(stay.host_id, Holding()).add(device.uuid, device.pk, limits)
    return found


def of_hosts(hosts: Collection[int], start_ms: int, end_ms: int) -> dict[int, Holding]:
    """Return what each host has or had in start ≤ t < end. Two queries."""
    found = {host: Holding() for host in hosts}
    rows = Device.objects.filter(host__in=hosts).order_by()
    for host_id, pk, uuid in rows.filter(moved_ms=None).values_list("host_id", "pk", "uuid"):
        found[host_id].add(uuid, pk, None)
    here = DeviceStay.objects.filter(host__in=hosts).order_by().values("device")
    moved = DeviceStay.objects.filter(device__in=here).order_by()
    told = list(moved.values_list("device_id", "host_id", "from_ms", "device__uuid"))
    uuids = {pk: uuid for pk, _, _, uuid in told}
    for pk, stays in _stays((pk, host, at) for pk, host, at, _ in told).items():
        for stay in stays:
            if stay.host_id in found and stay.from_ms < end_ms and stay.until_ms > start_ms:
                found[stay.host_id].add(uuids[pk], pk, stay)
    return found


def nodes_of(hosts: Collection[int]) -> list[Device]:
    """Return the devices that are, or were, these hosts as wholes, by name. One query."""
    were = DeviceStay.objects.filter(host__in=hosts).order_by().values("device")
    nodes = Device.objects.filter(Q(host__in=hosts) | Q(pk__in=were), kind=DeviceKind.NODE)
    return list(nodes.select_related("host").order_by("host__name", "pk"))


def of_moved(devices: Collection[int]) -> dict[int, list[Stay]]:
    """Return all stays, by id, of those of the devices that have moved. One query, of all stays where the devices are many."""
    rows = DeviceStay.objects.order_by().values_list("device_id", "host_id", "from_ms")
    if len(devices) < _MANY:
        rows = rows.filter(device__in=devices)
    return _stays(row for row in rows if row[0] in devices)


def ended_after(since_ms: int) -> list[tuple[int, int]]:
    """Return (host id, device id) of each stay that ended after the time; two queries, one where none has."""
    moved = set(DeviceStay.objects.filter(from_ms__gt=since_ms).order_by().values_list("device_id", flat=True))
    found = of_moved(moved) if moved else {}
    return [
        (stay.host_id, pk) for pk, of_device in found.items() for stay in of_device[:-1] if stay.until_ms > since_ms
    ]


def pairs(hosts: Collection[int] | None = None) -> dict[int, set[int]]:
    """Return the devices by host that were there, and perhaps are again, of those that have moved; of all hosts for None."""
    rows = DeviceStay.objects.all() if hosts is None else DeviceStay.objects.filter(host__in=hosts)
    found: dict[int, set[int]] = {}
    for host, device in rows.order_by().values_list("host_id", "device_id"):
        found.setdefault(host, set()).add(device)
    return found


def _present(device: Device) -> Stay:
    return Stay(device.host_id, device.moved_ms or 0, FAR_MS)


def _stays(rows: Iterable[tuple[int, int, int]]) -> dict[int, list[Stay]]:
    """Return the stays of rows (device id, host id, from_ms) by device id, in order; what adjoins on one host is one."""
    begun: dict[int, list[tuple[int, int]]] = {}
    for device, host, from_ms in sorted(rows, key=lambda row: (row[0], row[2])):
        of_device = begun.setdefault(device, [])
        if not of_device or of_device[-1][1] != host:
            of_device.append((from_ms, host))
    return {
        device: [Stay(host, since, until) for (since, host), (until, _) in pairwise([*of_device, (FAR_MS, 0)])]
        for device, of_device in begun.items()
    }
