"""The read side of pages, API and exposition: the fleet's newest state. Views ask here and render; for series see trends.py.

Values are in base units. What is absent is left out of `values` and stands in `absent` with its reason.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol

from django.db.models import prefetch_related_objects

from fleet.models import ACCELERATORS, Device, DeviceKind, Event, EventKind, Host, Origin, in_place
from telemetry.catalog import AbsentReason
from telemetry.health import Finding, Health, gravest, is_read, judge
from telemetry.health.gravest import Gravest
from telemetry.health.judgement import HEAT
from telemetry.store import latest
from telemetry.store.latest import Latest
from telemetry.wire import DeviceProcess


@dataclass(frozen=True, slots=True)
class Users:
    """The processes that used a device at `at`, greatest memory first."""

    at: datetime
    processes: list[DeviceProcess]


@dataclass(frozen=True, slots=True)
class DeviceState:
    """A device with its newest readings; `values` is empty where its host is silent or the device is lost.

    `at` is when the agent last spoke of it, `read_at` when it last gave any value. `advice` is what to do about `note`;
    `users` is None where it is not known who uses the device now.
    """

    device: Device
    health: Health
    note: str
    at: datetime | None
    read_at: datetime | None
    values: dict[str, float]
    absent: dict[str, str]
    advice: str = ""
    users: Users | None = None

    @property
    def is_part(self) -> bool:
        return is_part(self.device)

    @property
    def is_slowed_by_heat(self) -> bool:
        return bool(int(self.values.get("clock_event_reasons", 0)) & HEAT)

    def why_absent(self, metric: str) -> str:
        """Return the sentence that belongs to the "—" of a metric."""
        if self.health is Health.SILENT:
            return self.note
        return absence(self.absent.get(metric))


@dataclass(frozen=True, slots=True)
class HostState:
    host: Host
    health: Health
    note: str
    devices: list[DeviceState]

    @property
    def counted(self) -> list[DeviceState]:
        return counted(self.devices)

    @property
    def wholes(self) -> list[DeviceState]:
        """The devices apart from parts of devices, and from the host as a whole."""
        return [d for d in self.devices if not d.is_part and d.device.kind != DeviceKind.NODE]

    @property
    def parts(self) -> list[DeviceState]:
        """The MIG instances, in the order of the devices that they are parts of."""
        return [part for whole in self.wholes for part in self.parts_of(whole.device)]

    @property
    def node(self) -> DeviceState | None:
        """The host as a whole: its power at the wall, its memory, its agent."""
        return next((d for d in self.devices if d.device.kind == DeviceKind.NODE), None)

    def of(self, device: Device) -> DeviceState:
        """Return the state of one of its devices; a MIG instance that is gone is silent, and says why."""
        gone = DeviceState(device, Health.SILENT, "its GPU is not divided like this any more", None, None, {}, {})
        return next((d for d in self.devices if d.device.pk == device.pk), gone)

    def parts_of(self, device: Device) -> list[DeviceState]:
        return [d for d in self.devices if d.device.parent_id == device.pk]

    def parts_of_same(self, device: Device) -> list[DeviceState]:
        """Return the parts of the device that this one is a part of."""
        return [d for d in self.devices if d.is_part and d.device.parent_id == device.parent_id]

    def whole_of(self, device: Device) -> DeviceState | None:
        """Return the device that this one is a part of."""
        return next((d for d in self.devices if d.device.pk == device.parent_id), None)

    @property
    def agent(self) -> dict[str, float]:
        """The agent's own cost, which stands among the readings of the host as a whole."""
        return {
            name: value for d in self.devices if d.device.kind == DeviceKind.NODE
            for name, value in d.values.items() if name.startswith("agent_")
        }  # fmt: skip

    @property
    def power_watts(self) -> float | None:
        """Sum over the counted devices; None where one of them gives no power."""
        return total(d.values.get("power_draw_watts") for d in self.counted)

    @property
    def known_power_watts(self) -> list[float]:
        """The power of each counted device that gives it: what is shown with its number where the sum is not whole."""
        return [d.values["power_draw_watts"] for d in self.counted if "power_draw_watts" in d.values]


@dataclass(frozen=True, slots=True)
class FleetState:
    """Hosts at a moment: of one cluster, of all where it is "", or else some that were chosen."""

    now: datetime
    hosts: list[HostState]
    cluster: str | None = None

    @property
    def counted(self) -> list[DeviceState]:
        return counted([d for host in self.hosts for d in host.devices])

    @property
    def reporting(self) -> list[DeviceState]:
        """Those that give readings: neither silent nor lost, and with a driver that answers."""
        return [d for d in self.counted if is_read(d.values)]

    @property
    def noun(self) -> str:
        """What the counted devices are called."""
        return noun(self.counted)

    @property
    def origins(self) -> set[str]:
        """Origins other than real, for the banner."""
        return {state.host.origin for state in self.hosts} - {Origin.REAL}

    def mean(self, metric: str) -> float | None:
        values = [d.values[metric] for d in self.reporting if metric in d.values]
        return sum(values) / len(values) if values else None

    @property
    def powered(self) -> list[DeviceState]:
        """What power is summed of, as energy is: each host's accelerators, else its CPUs; where none has any, what is counted."""
        own = [d for host in self.hosts for d in host.counted if d.device.kind != DeviceKind.NODE]
        return own or self.counted

    @property
    def known_power_watts(self) -> list[float]:
        """The power of each powered device that gives it."""
        return [d.values["power_draw_watts"] for d in self.powered if "power_draw_watts" in d.values]

    def count(self, health: Health) -> int:
        return sum(d.health is health for d in self.counted)


def counted(devices: Sequence[DeviceState]) -> list[DeviceState]:
    """Return the devices that figures speak of: whole accelerators where there are any, else CPUs, else nodes.

    A part of a device (a MIG instance) is not counted beside the whole, nor a node's meter beside its devices.
    """
    for kinds in (ACCELERATORS, (DeviceKind.CPU,)):
        found = [d for d in devices if d.device.kind in kinds and not is_part(d.device)]
        if found:
            return found
    return [d for d in devices if d.device.kind == DeviceKind.NODE]


def absence(reason: str | None) -> str:
    """Return the sentence that says why a reading is absent."""
    return AbsentReason(reason).sentence if reason else "not offered by this kind of device"


def is_part(device: Device) -> bool:
    """Tell whether a device is a part of another; its profile says so where the whole is not known."""
    return device.parent_id is not None or bool(device.profile)


def noun(devices: Sequence[DeviceState]) -> str:
    """Return what these devices are called: GPUs of any vendor, TPUs, CPUs, nodes; accelerators where there are several kinds.

    Where there is none, devices.
    """
    words = {d.device.get_kind_display() for d in devices} or {"device"}
    return f"{words.pop()}s" if len(words) == 1 else "accelerators"


def total(values: Iterable[float | None]) -> float | None:
    """Return the sum; None where nothing is summed or one part is unknown."""
    known = list(values)
    if not known or any(value is None for value in known):
        return None
    return sum(value for value in known if value is not None)


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
