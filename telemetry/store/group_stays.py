"""In which group a device was when, of those that a trend is asked for: of groups of hosts the group of then. For the trends.

Where no device has moved in the time, it costs nothing beside the query of the devices.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from django.db.models import Q, QuerySet

from fleet.models import Device, Host
from telemetry.store import stays
from telemetry.store.stays import Stay


class Asked(NamedTuple):
    """Devices that are counted, of one cluster ("" are the hosts without one), of all where that is None, by `group_by`.

    This is "" for one group, cluster, model, host, or label:<key>.
    """

    counted: QuerySet[Device]
    cluster: str | None
    group_by: str

    @property
    def goes_by_hosts(self) -> bool:
        return self.cluster is not None or self.group_by not in {"", "model"}

    def group(self, device: Device, host: Host) -> str:
        """Return the group that a device is in while it is with the host."""
        match self.group_by:
            case "cluster":
                return host.cluster
            case "model":
                return device.model
            case "host":
                return host.name
            case "":
                return ""
        return str(host.labels.get(self.group_by.removeprefix("label:"), ""))


class Member(NamedTuple):
    """A device with its group; one that has moved has instead, by group, the stays for which it was in it."""

    device: Device
    group: str
    moves: Mapping[str, list[Stay]] | None = None


def members(asked: Asked, start_ms: int, end_ms: int) -> Iterator[Member]:
    """Yield the devices that were in any of the groups in start ≤ t < end; what is settled is taken to have been always."""
    moved: list[Device] = []
    for device in _candidates(asked, start_ms):
        if asked.goes_by_hosts and device.moved_ms is not None and device.moved_ms > start_ms:
            moved.append(device)
        else:
            yield Member(device, asked.group(device, device.host))
    if moved:
        yield from _of_moved(asked, moved, start_ms, end_ms)


def _candidates(asked: Asked, start_ms: int) -> QuerySet[Device]:
    found = asked.counted
    if asked.cluster is not None:  # also who may have left it
        found = found.filter(Q(host__cluster=asked.cluster) | Q(moved_ms__gt=start_ms))
    return found.select_related("host")


def _of_moved(asked: Asked, moved: Collection[Device], start_ms: int, end_ms: int) -> Iterator[Member]:
    found = stays.of_devices(moved, start_ms, end_ms)
    hosts = Host.objects.in_bulk({stay.host_id for of_device in found.values() for stay in of_device})
    for device in moved:
        by_group: dict[str, list[Stay]] = {}
        for stay in found[device.pk]:
            host = hosts.get(stay.host_id)  # None where it was removed just now
            if host and asked.cluster in {None, host.cluster}:
                by_group.setdefault(asked.group(device, host), []).append(stay)
        if by_group:
            yield Member(device, "", by_group)
