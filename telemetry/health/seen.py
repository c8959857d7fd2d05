"""What the rules are shown: a host with its devices' newest readings, as the watch reads them from the store. Pure.

Values are in base units. Times of readings are the host's own, UTC milliseconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from fleet.models import ACCELERATORS, Host

ENOUGH_HOSTS = 3  # that fall silent together: fewer may well do so by themselves


class Subject(NamedTuple):
    """Whom an alert is about.

    `name` is "device:<uuid>", "host:<name>", "hosts:<name>,<name>", "cluster:<name>", "fleet", "server" or "database".
    `members` are the ids of the hosts of "hosts:…", about which it is together.
    """

    name: str
    host_id: int | None = None
    device_id: int | None = None
    scope: str = "fleet"  # the row of the watch's memory that it is kept in
    members: tuple[int, ...] = ()


SERVER = Subject("server")


class XidSeen(NamedTuple):
    """`times` equal XIDs of a device, the newest at `last_at`."""

    code: int
    times: int
    last_at: datetime


@dataclass(slots=True)
class DeviceSeen:
    """A device of a host that reports. `values` is empty where it is lost, or where its host does not name it any more.

    `absent` are its absent readings with their reasons, `reasons` those of all of them; `is_read` says whether the device
    itself gave any value; `processes` use it, None where they were not looked at lately; `grown` is what its watched
    counters grew by over the last hour.
    """

    name: str
    pk: int
    uuid: str
    kind: str
    index: int | None
    model: str
    host: "HostSeen"
    at_ms: int
    values: Mapping[str, float]
    reasons: frozenset[str]
    is_read: bool
    is_named: bool
    xids: Sequence[XidSeen]
    processes: Sequence[Mapping[str, Any]] | None
    absent: Mapping[str, str] = field(default_factory=dict)
    grown: dict[str, float] = field(default_factory=dict)

    @property
    def subject(self) -> Subject:
        return Subject(self.name, self.host.host.pk, self.pk, self.host.name)

    @property
    def is_accelerator(self) -> bool:
        return self.kind in ACCELERATORS


@dataclass(slots=True)
class HostSeen:
    """A host with its whole devices; parts of devices are not judged, their whole stands for them.

    `is_silent` hosts have no devices here: nothing is known of them. `is_watched` says that its silence is its own, and
    not that nobody was here to listen. `node` is the host as a whole, among its devices: its meter, its agent, its clock.
    """

    name: str
    host: Host
    now: datetime
    at_ms: int
    is_silent: bool
    is_watched: bool = True
    devices: list[DeviceSeen] = field(default_factory=list)
    node: DeviceSeen | None = None

    @property
    def subject(self) -> Subject:
        return Subject(self.name, self.host.pk, None, self.name)
