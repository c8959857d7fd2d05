"""Which hosts or devices a launch means by cluster, labels and device model ("all H100 of cluster atlas"). Reads only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from fleet.models import Device, Host, Origin, in_place
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
    """What a launch takes, and the hosts that fit but have a reference job already."""

    wanted: list[Wanted]
    busy: list[str]


def select(asked: Selection, *, with_busy: bool = False) -> Selected:
    """Return one target a host or a device, by name and index; busy hosts only `with_busy`. Raises NothingSelected."""
    hosts = Host.objects.filter(origin=Origin.REAL).prefetch_related("devices").order_by("name")
    hosts = hosts.filter(cluster=asked.cluster) if asked.cluster else hosts
    busy = (
        set()
        if with_busy
        else set(ReferenceJob.objects.filter(state__in=ACTIVE_STATES).values_list("host_id", flat=True))
    )
    found: dict[Host, list[Device]] = {}
    for host in hosts:
        devices = devices_of(host, asked)
        if devices and asked.labels.items() <= host.labels.items():
            found[host] = devices
    wanted = [(host.name, device.uuid) for host, devices in found.items() if host.pk not in busy for device in devices]
    taken = [host.name for host in found if host.pk in busy]
    if not wanted:
        raise NothingSelected(f"{', '.join(taken)} fit and are busy" if taken else "no host fits that selection")
    return Selected(wanted, taken)


def of_hosts(names: Sequence[str], per: Per, n_devices: int = 0) -> list[Wanted]:
    """Return the targets of hosts that were chosen by name: each, or each of its devices. What is unknown stays as it is."""
    if per == "host":
        return [(name, "") for name in names]
    known = {host.name: host for host in Host.objects.filter(name__in=names).prefetch_related("devices")}
    every = Selection(per="device", n_devices=n_devices)
    return [(name, device.uuid) for name in names if name in known for device in devices_of(known[name], every)] + [
        (name, "") for name in names if name not in known
    ]


def devices_of(host: Host, asked: Selection) -> list[Device]:
    """Return the devices of a host that are meant: whole ones, all accelerators of the model or the one it takes by itself."""
    whole = [device for device in host.devices.all() if device.parent_id is None and not device.profile]
    fitting = [device for device in whole if asked.model.casefold() in device.model.casefold()]
    fitting.sort(key=lambda device: (device.kind, in_place(device.index)))
    if not fitting:
        return []
    chosen = default_device(fitting)
    alike = [device for device in fitting if device.kind == chosen.kind]
    return alike[: asked.n_devices or None] if asked.per == "device" else [chosen]
