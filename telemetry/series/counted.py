"""Which devices the figures of the fleet, or of a cluster, speak of. Called by trends and by what groups power.

A cluster is None for the fleet; "" is that of the hosts without one.
"""

from django.db.models import QuerySet

from fleet.models import ACCELERATORS, Device, DeviceKind
from telemetry.store import groups

_KINDS = {groups.ACCELERATOR: ACCELERATORS, groups.CPU: (DeviceKind.CPU,), groups.NODE: (DeviceKind.NODE,)}


def class_of(cluster: str | None) -> str:
    """Return what is counted: accelerators, else CPUs, else nodes, as the store's groups name them."""
    if cluster != "":
        return groups.class_of_fleet(cluster or "")
    there = Device.objects.filter(groups.whole_devices(), host__cluster="").order_by()
    kinds = set(there.values_list("kind", flat=True).distinct())
    return next((name for name, of_class in _KINDS.items() if kinds.intersection(of_class)), groups.NODE)


def devices(cluster: str | None, counted: str) -> QuerySet[Device]:
    """Return the whole devices of a class."""
    found = Device.objects.filter(groups.whole_devices(), kind__in=_KINDS[counted])
    return found if cluster is None else found.filter(host__cluster=cluster)
