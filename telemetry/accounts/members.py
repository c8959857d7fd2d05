"""What accounts ask of hosts and devices, which devices count, and in which group a device or a host is. Asks no database."""

from collections.abc import Iterable
from typing import Any, Protocol, TypeVar

from fleet.models import ACCELERATORS, DeviceKind


class AccountHost(Protocol):
    """What accounts ask of a host."""

    @property
    def name(self) -> str: ...
    @property
    def cluster(self) -> str: ...
    @property
    def labels(self) -> Any: ...


class AccountDevice(Protocol):
    """What accounts ask of a device: a row of the inventory, or the model."""

    @property
    def pk(self) -> int: ...
    @property
    def uuid(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def parent_id(self) -> int | None: ...
    @property
    def profile(self) -> str: ...
    @property
    def host_id(self) -> int: ...
    @property
    def host(self) -> AccountHost: ...


Counted = TypeVar("Counted", bound=AccountDevice)


def counted_of(devices: Iterable[Counted]) -> list[Counted]:
    """Return, of each host, its whole accelerators or, where it has none, its CPUs."""
    by_host: dict[int, list[Counted]] = {}
    for device in devices:
        if device.parent_id is None and not device.profile:
            by_host.setdefault(device.host_id, []).append(device)
    found = []
    for of_host in by_host.values():
        accelerators = [device for device in of_host if device.kind in ACCELERATORS]
        found += accelerators or [device for device in of_host if device.kind == DeviceKind.CPU]
    return found


def is_of_hosts(group_by: str) -> bool:
    """Tell whether groups are of hosts, whatever devices these have."""
    return group_by in {"host", "cluster"} or group_by.startswith("label:")


def key_of(device: AccountDevice, group_by: str) -> str:
    """Return the group of a device where it is now."""
    match group_by:
        case "device":
            return device.uuid
        case "model":
            return device.model
    return key_of_host(device.host, group_by)


def key_of_host(host: AccountHost, group_by: str) -> str:
    match group_by:
        case "host":
            return host.name
        case "cluster":
            return host.cluster
    return str(host.labels.get(group_by.removeprefix("label:"), ""))
