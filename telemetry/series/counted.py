"""Which devices the figures of the fleet, or of a cluster, speak of. Called by trends and by what groups power.

A cluster is None for the fleet; "" is that of the hosts without one. Trends look back: with `since_ms` a device counts also where
it was after that time, and is not any more.
"""

from typing import NamedTuple

from django.db.models import QuerySet

from fleet.models import ACCELERATORS, Device, DeviceKind, Host
from telemetry.store import groups, stays

_KINDS = {groups.ACCELERATOR: ACCELERATORS, groups.CPU: (DeviceKind.CPU,), groups.NODE: (DeviceKind.NODE,)}


class Left(NamedTuple):
    """A device that was with the host, and is with another one now."""

    device: Device
    host: Host


def class_of(cluster: str | None, since_ms: int | None = None) -> str:
    """Return what is counted: accelerators, else CPUs, else nodes, as the store's groups name them."""
    here = _class_here(cluster)
    if cluster is None or since_ms is None or here == groups.ACCELERATOR:
        return here
    kinds = {each.device.kind for each in left(cluster, since_ms)}
    return next(name for name, of_class in _KINDS.items() if name == here or kinds.intersection(of_class))


def _class_here(cluster: str | None) -> str:
    if cluster != "":
        return groups.class_of_fleet(cluster or "")
    there = Device.objects.filter(groups.whole_devices(), host__cluster="").order_by()
    kinds = set(there.values_list("kind", flat=True).distinct())
    return next((name for name, of_class in _KINDS.items() if kinds.intersection(of_class)), groups.NODE)


def devices(cluster: str | None, counted: str) -> QuerySet[Device]:
    """Return the whole devices of a class."""
    found = Device.objects.filter(groups.whole_devices(), kind__in=_KINDS[counted])
    return found if cluster is None else found.filter(host__cluster=cluster)


def left(cluster: str | None, since_ms: int, counted: str | None = None) -> list[Left]:
    """Return the whole devices, of a class if one is named, that have left a host of the cluster since. One query if none has."""
    ended = stays.ended_after(since_ms)
    if not ended:
        return []
    then = Host.objects.filter(**({} if cluster is None else {"cluster": cluster})).in_bulk({host for host, _ in ended})
    found = Device.objects.filter(groups.whole_devices(), **({} if counted is None else {"kind__in": _KINDS[counted]}))
    moved = found.in_bulk({pk for host, pk in ended if host in then})
    return [Left(moved[pk], then[host]) for host, pk in ended if host in then and pk in moved]
