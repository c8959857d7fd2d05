"""The hosts that a launch may be meant for, with their devices, as rows: of thousands a model takes many times as long.

Called by the selection and by the form's picker. Reads only.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import NamedTuple

from django.db.models import F, Q

from fleet.models import ACCELERATORS, Device, DeviceKind, Host, has_gone_silent, title_of

_MANY = 250  # hosts: their ids make a longer question than all devices an answer


@dataclass(slots=True)
class DeviceRow:
    """A device, as far as a launch asks of it."""

    host_id: int
    pk: int
    uuid: str
    kind: str
    index: int | None
    model: str
    parent_id: int | None
    profile: str

    @property
    def is_accelerator(self) -> bool:
        return self.kind in ACCELERATORS

    @property
    def is_whole(self) -> bool:
        return self.parent_id is None and not self.profile

    @property
    def name(self) -> str:
        """Return its model or, where that is not known, what it is."""
        return self.model or str(DeviceKind(self.kind).label)

    @property
    def title(self) -> str:
        return title_of(self.kind, self.index, self.profile)


class HostRow(NamedTuple):
    """A host with the devices that a job may run on, by kind and index; the host as a whole is none of them."""

    pk: int
    name: str
    cluster: str
    labels: dict[str, str]
    origin: str
    heard_at: datetime | None
    devices: list[DeviceRow]

    def is_silent(self, now: datetime) -> bool:
        return has_gone_silent(self.origin, self.heard_at, now)


def read(where: Q) -> list[HostRow]:
    """Return these hosts by name. Two queries."""
    rows = Host.objects.filter(where).order_by("name").values_list(*HostRow._fields[:-1])
    found = {row[0]: HostRow(*(*row, [])) for row in rows}
    for device in _devices(list(found)):
        if device.host_id in found:
            found[device.host_id].devices.append(device)
    return list(found.values())


def _devices(hosts: Sequence[int]) -> list[DeviceRow]:
    names = [field.name for field in fields(DeviceRow)]
    rows = (
        Device.objects.exclude(kind=DeviceKind.NODE)
        .order_by("host_id", "kind", F("index").asc(nulls_last=True), "pk")
        .values_list(*names)
    )
    return [DeviceRow(*row) for row in (rows if len(hosts) > _MANY else rows.filter(host__in=hosts))]
