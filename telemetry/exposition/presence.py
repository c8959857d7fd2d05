"""Which devices of a host speak at present, and with what: the exposition's view of a host. Pure; asks no database.

The same rules as the pages' (telemetry/newest/queries.py), for a whole fleet at each scrape; a test holds the two together.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from fleet.models import ACCELERATORS, Host, Origin, in_place
from telemetry.catalog import AbsentReason
from telemetry.health import OF_THE_AGENT, is_read
from telemetry.store.newest import Identity

STALE_MS = 30_000  # apart from the other devices of its host, by the host's own clock, which may have been set back
_GONE = {AbsentReason.GPU_IS_LOST.value, AbsentReason.RESET_REQUIRED.value}
_LOST = AbsentReason.GPU_IS_LOST.value


class DeviceNow(NamedTuple):
    """A device with its newest readings, by metric and in base units; `is_up` is what `stepwatt_device_up` says."""

    identity: Identity
    is_up: bool
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class HostNow:
    """A host with the devices that are told of: none where it is silent, or has no present because it was imported."""

    host: Host
    is_silent: bool
    devices: Sequence[DeviceNow]

    @classmethod
    def of(
        cls,
        host: Host,
        identities: Sequence[Identity],
        at_ms: int,
        readings: Mapping[str, Mapping[str, Any]],
        *,
        is_silent: bool,
    ) -> "HostNow":
        """Judge what LatestState holds of the host: `readings` by uuid, the newest of them at `at_ms`."""
        if is_silent or host.origin == Origin.IMPORTED:
            return cls(host, is_silent, ())
        found = [_device(identity, at_ms, readings.get(identity.uuid)) for identity in identities]
        return cls(host, is_silent, [device for device in found if device is not None])


def ordered(identities: Iterable[Identity]) -> list[Identity]:
    """Return the devices as the pages order them: accelerators first, wholes before their parts."""
    return sorted(
        identities,
        key=lambda d: (d.kind not in ACCELERATORS, d.kind, is_part(d), in_place(d.index), d.profile, d.uuid),
    )


def _device(identity: Identity, at_ms: int, newest: Mapping[str, Any] | None) -> DeviceNow | None:
    """Return the device; None for a MIG instance that its host does not name any more."""
    if newest is None:
        return None if is_part(identity) else DeviceNow(identity, is_up=False, values={})
    if abs(at_ms - newest["at_ms"]) > STALE_MS:
        return DeviceNow(identity, is_up=False, values={})
    values, absent = newest["values"], newest["absent"]
    if not absent:
        return DeviceNow(identity, is_up=is_read(values), values=values)
    reasons = set(absent.values())
    if _LOST in reasons:  # it may still answer some calls, with what it knew before; its XID 79 is told
        values = {name: value for name, value in values.items() if name in OF_THE_AGENT}
    return DeviceNow(identity, is_up=is_read(values) and _GONE.isdisjoint(reasons), values=values)


def is_part(identity: Identity) -> bool:
    return identity.parent_id is not None or bool(identity.profile)
