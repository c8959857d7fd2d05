"""What a scheduler says that it has given away on this host. Made by allocation_kubelet.py and allocation_slurm.py.

A scheduler that is not on the host answers None, one that is and does not answer an AbsentReason. Imports no scheduler's library.
"""

from collections.abc import Set as AbstractSet
from typing import NamedTuple, Protocol

from telemetry.catalog import AbsentReason
from telemetry.message.wire import DeviceInfo


class Given(NamedTuple):
    """Names of devices: their uuids, PCI addresses, or `index_name`. `managed` of None is all that the host has."""

    taken: AbstractSet[str]
    managed: AbstractSet[str] | None = None

    def has(self, device: DeviceInfo) -> bool:
        """Return whether somebody has the device."""
        return not self.taken.isdisjoint(names(device))

    def manages(self, device: DeviceInfo) -> bool:
        """Return whether the scheduler would know it if somebody had the device."""
        return self.managed is None or not self.managed.isdisjoint(names(device))


Answer = Given | AbsentReason | None


class Scheduler(Protocol):
    def look(self) -> Answer:
        """Return what is given away now. May take some seconds; never raises."""


def index_name(index: int | str) -> str:
    return f"index {index}"


def names(device: DeviceInfo) -> tuple[str, ...]:
    """Return what schedulers may call the device. A part of one has its uuid alone: index and address are not its own."""
    if device.parent:
        return (device.uuid,)
    return device.uuid, device.pci_bus_id.lower(), index_name(device.index)
