"""The read side of pages, API and exposition: the fleet's newest state (fleet_state.py). Views ask here and render.

For series see trends.py; for columns of the whole fleet, without models, glance.py.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol

from django.db.models import prefetch_related_objects

from fleet.models import Device, Event, EventKind, Host, in_place
from telemetry.catalog import AbsentReason
from telemetry.health import Finding, Health, gravest, judge
from telemetry.health.gravest import Gravest
from telemetry.message.wire import DeviceProcess
from telemetry.newest.fleet_state import DeviceState, FleetState, HostState, Users, is_part
from telemetry.store import latest
from telemetry.store.latest import Latest


def fleet_state(now: datetime, *, cluster: str = "") -> FleetState:
    """Return every host with its devices, by name. Five queries, whatever the size of the fleet."""
    hosts = Host.objects.filter(cluster=cluster) if cluster else Host.objects.all()
    return FleetState(now, _states(list(hosts.prefetch_related("devices")), now), cluster)


def host_state(host: Host, now: datetime) -> HostState:
    return _states([host], now)[0]


def host_states(hosts: Sequence[Host], now: datetime) -> list[HostState]:
    """Return these hosts with their devices; as many queries as for one."""
    prefetch_related_objects(hosts, "devices")
    return _states(list(hosts), now)


def device_state(device: Device, now: datetime) -> DeviceState:
    return host_state(device.host, now).of(device)


_STALE = timedelta(seconds=30)  # apart from the other devices of its host, by the host's own clock
_USERS_KNOWN = timedelta(minutes=1)
_XID_RECENT = timedelta(hours=1)  # an XID says that something happened, not that it still holds


def _states(hosts: list[Host], now: datetime) -> list[HostState]:
    known, events = latest.of_hosts(hosts), _Events(_recent_xids(hosts, now), gravest.of_hosts(hosts))
    return [_host_state(host, known.get(host.pk), events, now) for host in hosts]


class _Events(NamedTuple):
    """What happened that a device's and a host's health follows, beside the newest readings."""

    xids: Mapping[int, Sequence[int]]
    alerts: Gravest


def _recent_xids(hosts: Sequence[Host], now: datetime) -> dict[int, list[int]]:
    """Return the XIDs of the last hour by device id, newest first."""
    rows = Event.objects.filter(kind=EventKind.XID, last_at__gt=now - _XID_RECENT, device__isnull=False)
    if len(hosts) < 100:
        rows = rows.filter(host__in=hosts)
    found: dict[int, list[int]] = {}
    for device_id, code in rows.values_list("device_id", "code"):
        if code is not None:
            found.setdefault(device_id, []).append(code)
    return found


def recent_xids_by_host(now: datetime) -> dict[int, dict[int, list[int]]]:
    """Return the XIDs of the last hour by host id and device id, newest first, of the whole fleet. One query."""
    rows = Event.objects.filter(kind=EventKind.XID, last_at__gt=now - _XID_RECENT, device__isnull=False)
    found: dict[int, dict[int, list[int]]] = {}
    for host_id, device_id, code in rows.values_list("host_id", "device_id", "code"):
        if code is not None and device_id is not None:
            found.setdefault(host_id, {}).setdefault(device_id, []).append(code)
    return found


def _host_state(host: Host, known: Latest | None, events: _Events, now: datetime) -> HostState:
    silent = host.is_silent(now)
    wholes_first = sorted(
        host.devices.all(),
        key=lambda d: (not d.is_accelerator, d.kind, is_part(d), in_place(d.index), d.profile, d.uuid),
    )
    by_id = {device.pk: device for device in wholes_first}
    for device in wholes_first:
        if whole := by_id.get(device.parent_id or 0):
            device.parent = whole  # read already: no query for each part
    found = [_device_state(device, known, events, silent=silent) for device in wholes_first]
    devices = [state for state in found if state is not None]
    if silent:
        return HostState(host, Health.SILENT, silence(host), devices)
    worst = _worst(host, devices, events.alerts)
    return HostState(host, worst.health, worst.note, devices)


def _worst(host: Host, devices: Sequence[DeviceState], raised: Gravest) -> Finding:
    """Return the gravest of a host that reports: of its devices, of an alert of a silent one, of an alert of its own."""
    worst = Finding(Health.OK, "")
    for state in devices:
        is_silent = state.health is Health.SILENT
        found = raised.of_devices.get(state.device.pk) if is_silent else Finding(state.health, state.note)
        if found is not None:
            worst = gravest.graver(worst, found._replace(note=f"{state.device.title}: {found.note}"))
    return gravest.graver(worst, raised.of_hosts.get(host.pk, worst))


class Reporter(Protocol):
    """What may fall silent: a host, as a model or as a plain row."""

    @property
    def has_reported(self) -> bool: ...
    @property
    def public_key(self) -> bytes | memoryview: ...
    @property
    def last_seen_at(self) -> datetime | None: ...


STALE_WORDS = "its host reports, this device does not"


def silence(host: Reporter) -> str:
    """Return why nothing is known of a host's devices at present."""
    if not host.has_reported:
        return "added, and waiting for its agent to join" if not host.public_key else "joined, no sample yet"
    return "no sample yet" if host.last_seen_at is None else f"last sample {host.last_seen_at:%Y-%m-%d %H:%M:%S} UTC"


def _device_state(device: Device, known: Latest | None, events: _Events, *, silent: bool) -> DeviceState | None:
    """Return the device as it stands; None for a MIG instance that its host does not name any more."""
    newest = known.devices.get(device.uuid) if known else None
    if newest is None and is_part(device):
        return None
    if known is None or newest is None:
        return DeviceState(device, Health.SILENT, silence(device.host), None, None, {}, {})
    at, read_at = _time(newest.at_ms), None if newest.read_ms is None else _time(newest.read_ms)
    if silent:
        return DeviceState(device, Health.SILENT, silence(device.host), at, read_at, {}, {})
    if abs(_time(known.at_ms) - at) > _STALE:
        return DeviceState(device, Health.SILENT, STALE_WORDS, at, read_at, {}, {})
    # A lost device may still answer some calls, with what it knew before.
    values = {} if AbsentReason.GPU_IS_LOST in newest.absent.values() else newest.values
    judged = judge(values, newest.absent, events.xids.get(device.pk, ()))
    health, note, advice = gravest.graver(judged, events.alerts.of_devices.get(device.pk, judged))
    users = _users(known, device) if values else None
    return DeviceState(device, health, note, at, read_at, values, newest.absent, advice, users)


def _users(known: Latest, device: Device) -> Users | None:
    told = known.processes.get(device.uuid)
    if told is None or abs(_time(known.at_ms) - _time(told["at_ms"])) > _USERS_KNOWN:
        return None
    processes = [DeviceProcess(**process) for process in told["processes"]]
    return Users(_time(told["at_ms"]), sorted(processes, key=lambda p: (-(p.memory_bytes or 0), p.pid)))


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
