"""Reads the fleet as the rules are shown it, host by host, from LatestState and the XIDs of late. Called by the watch.

Plain rows and pydantic's reader instead of models, where there are thousands: a pass comes every ten seconds.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db.models import TextField
from django.db.models.functions import Cast
from pydantic_core import from_json

from fleet.models import Device, DeviceKind, Event, EventKind, Host, Origin
from telemetry.catalog import AbsentReason
from telemetry.health.judgement import is_read
from telemetry.health.seen import ENOUGH_HOSTS, DeviceSeen, HostSeen, XidSeen
from telemetry.models import LatestState

_STALE_MS = 30_000  # apart from the other devices of its host, by the host's own clock, as in queries.py
_USERS_KNOWN_MS = 60_000
_LOST = AbsentReason.GPU_IS_LOST.value
_NO_REASONS: frozenset[str] = frozenset()


class Identity(NamedTuple):
    """A whole device; parts of devices are not judged. `place` is its index."""

    name: str
    host_id: int
    pk: int
    uuid: str
    kind: str
    place: int | None
    model: str


class Known(NamedTuple):
    """What stands in the database beside the newest readings.

    `is_nothing_heard` where hosts enough to tell are silent all at once: then it is the server that hears nothing.
    """

    hosts: Mapping[int, Host]
    devices: Mapping[int, Sequence[Identity]]
    xids: Mapping[int, Sequence[XidSeen]]
    is_nothing_heard: bool


def known(now: datetime, xid_seconds: float) -> Known:
    """Return the hosts that are judged (no imported ones), their devices, and the XIDs of the last `xid_seconds`."""
    fields = ("name", "cluster", "labels", "origin", "created_at", "last_seen_at", "heard_at")
    hosts = {host.pk: host for host in Host.objects.exclude(origin=Origin.IMPORTED).only(*fields)}
    devices: dict[int, list[Identity]] = {}
    wholes = Device.objects.filter(parent=None, profile="").order_by("kind", "index")
    for row in wholes.values_list("host_id", "pk", "uuid", "kind", "index", "model"):
        devices.setdefault(row[0], []).append(Identity(f"device:{row[2]}", *row))
    xids: dict[int, list[XidSeen]] = {}
    recent = Event.objects.filter(kind=EventKind.XID, last_at__gt=now - timedelta(seconds=xid_seconds))
    for device_id, code, times, last_at in recent.values_list("device_id", "code", "count", "last_at"):
        if device_id and code:
            xids.setdefault(device_id, []).append(XidSeen(code, times, last_at))
    joined = [host for host in hosts.values() if host.has_reported]
    is_nothing_heard = len(joined) >= ENOUGH_HOSTS and all(host.is_silent(now) for host in joined)
    return Known(hosts, devices, xids, is_nothing_heard)


def hosts(found: Known, now: datetime, watched_since: datetime) -> Iterator[HostSeen]:
    """Yield each host that ever reported, the silent ones without their devices."""
    texts = {name: Cast(name, TextField()) for name in ("devices", "processes")}
    rows = LatestState.objects.annotate(newest=texts["devices"], users=texts["processes"])
    for host_id, at_ms, newest, users in rows.values_list("host_id", "at_ms", "newest", "users").iterator(
        chunk_size=50
    ):
        host = found.hosts.get(host_id)
        if host is None or not host.has_reported:  # its row was read before its first batch: the next pass judges it
            continue
        is_silent = host.is_silent(now)
        is_watched = not is_silent or (not found.is_nothing_heard and _was_watched(host, now, watched_since))
        seen = HostSeen(f"host:{host.name}", host, now, at_ms, is_silent, is_watched)
        if not is_silent:
            _add_devices(seen, found, from_json(newest, cache_strings="keys"), from_json(users, cache_strings="keys"))
        yield seen
        seen.devices.clear()  # host and devices name each other: freed here, and not by the collector of cycles
        seen.node = None


def _was_watched(host: Host, now: datetime, watched_since: datetime) -> bool:
    """Tell whether the host would be silent too if it had been heard of at the moment when the watch began."""
    if host.heard_at is None or host.heard_at >= watched_since:
        return True
    return Host(origin=host.origin, heard_at=watched_since).is_silent(now)


def _add_devices(host: HostSeen, found: Known, newest: Mapping[str, Any], users: Mapping[str, Any]) -> None:
    """A lost device may still answer some calls, with what it knew before; one that is not named says nothing any more."""
    for of in found.devices.get(host.host.pk, ()):
        device = newest.get(of.uuid)
        if device is None:
            continue
        absent, at_ms = device["absent"], device["at_ms"]
        is_named = abs(host.at_ms - at_ms) <= _STALE_MS
        reasons = frozenset(absent.values()) if absent and is_named else _NO_REASONS
        values = device["values"] if is_named and _LOST not in reasons else {}
        used = users.get(of.uuid)
        if used is not None and abs(host.at_ms - used["at_ms"]) > _USERS_KNOWN_MS:
            used = None
        seen = DeviceSeen(
            of.name, of.pk, of.uuid, of.kind, of.place, of.model, host, at_ms, values, reasons, is_read(values), is_named,
            found.xids.get(of.pk, ()), used and used["processes"], absent,
        )  # fmt: skip
        host.devices.append(seen)
        if of.kind == DeviceKind.NODE:
            host.node = seen
