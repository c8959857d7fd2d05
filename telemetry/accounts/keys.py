"""Which group of an account a device, or a host, is in; and what accounts ask of either. Called by the accounts."""

from typing import Any, Protocol


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
    """Return the group of a host."""
    match group_by:
        case "host":
            return host.name
        case "cluster":
            return host.cluster
    return str(host.labels.get(group_by.removeprefix("label:"), ""))
