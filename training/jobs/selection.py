"""Which hosts or devices a launch means by cluster, labels and device model ("all H100 of cluster atlas"). Reads only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from django.db.models import Q

from fleet.models import Origin
from training.jobs import candidates
from training.jobs.candidates import DeviceRow, HostRow
from training.jobs.launch import Wanted, default_device
from training.models import ACTIVE_STATES, ReferenceJob

Per = Literal["host", "device"]


class NothingSelected(ValueError):
    """No host fits, or none of those that fit is free; the text says which."""


@dataclass(frozen=True, slots=True)
class Selection:
    """All that is given must fit: labels exactly, the model by a part of its name, whatever its case.

    Per device, `n_devices` are taken of each host, its first ones; 0 takes all.
    """

    cluster: str = ""
    model: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    per: Per = "host"
    n_devices: int = 0

    @property
    def is_empty(self) -> bool:
        return not (self.cluster or self.model or self.labels)


@dataclass(frozen=True, slots=True)
class Selected:
    """What a launch takes of `hosts`, and the names of those that fit but have a reference job already."""

    wanted: list[Wanted]
    hosts: list[HostRow]
    busy: list[str]


def select(asked: Selection, *, with_busy: bool = False) -> Selected:
    """Return one target a host or a device, by name and index; busy hosts only `with_busy`. Raises NothingSelected."""
    within = Q(cluster=asked.cluster) if asked.cluster else Q()
    active = ReferenceJob.objects.filter(state__in=ACTIVE_STATES)
    busy = set[int]() if with_busy else set(active.values_list("host_id", flat=True))
    hosts = candidates.read(within & Q(origin=Origin.REAL))
    fitting = [(host, devices_of(host, asked)) for host in hosts if asked.labels.items() <= host.labels.items()]
    found = [(host, devices) for host, devices in fitting if devices]
    wanted = [(host.name, device.uuid) for host, devices in found if host.pk not in busy for device in devices]
    taken = [host.name for host, _ in found if host.pk in busy]
    if not wanted:
        raise NothingSelected(f"{', '.join(taken)} fit and are busy" if taken else "no host fits that selection")
    return Selected(wanted, [host for host, _ in found if host.pk not in busy], taken)


def of_hosts(names: Sequence[str], per: Per, n_devices: int = 0) -> list[Wanted]:
    """Return the targets of hosts that were chosen by name: each, or each of its devices. What is unknown stays as it is."""
    if per == "host":
        return [(name, "") for name in names]
    known = {host.name: host for host in candidates.read(Q(name__in=names))}
    every = Selection(per="device", n_devices=n_devices)
    return [(name, device.uuid) for name in names if name in known for device in devices_of(known[name], every)] + [
        (name, "") for name in names if name not in known
    ]


def devices_of(host: HostRow, asked: Selection) -> list[DeviceRow]:
    """Return the devices of a host that are meant: whole ones, all accelerators of the model or the one it takes by itself."""
    part = asked.model.casefold()
    whole = [device for device in host.devices if device.is_whole]
    fitting = [device for device in whole if part in device.model.casefold()] if part else whole
    if not fitting:
        return []
    chosen = default_device(fitting)
    alike = [device for device in fitting if device.kind == chosen.kind]
    return alike[: asked.n_devices or None] if asked.per == "device" else [chosen]
