"""The read side of pages, API and exposition: the fleet's newest state, series and trends. Views ask here and render.

Values are in base units. What is absent is left out of `values` and stands in `absent` with its reason.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from fleet.models import ACCELERATORS, Device, DeviceKind, Host, Origin
from telemetry.catalog import AbsentReason
from telemetry.health import Health, judge
from telemetry.store import read
from telemetry.store.read import Bucketed

MAX_POINTS = 4_000


@dataclass(frozen=True, slots=True)
class DeviceState:
    """A device with its newest readings; `values` is empty where its host is silent or the device is lost.

    `at` is when the agent last spoke of it, `read_at` when it last gave any value.
    """

    device: Device
    health: Health
    note: str
    at: datetime | None
    read_at: datetime | None
    values: dict[str, float]
    absent: dict[str, str]

    def why_absent(self, metric: str) -> str:
        """Return the sentence that belongs to the "—" of a metric."""
        if self.health is Health.SILENT:
            return self.note
        reason = self.absent.get(metric)
        return AbsentReason(reason).sentence if reason else "not offered by this kind of device"


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
    now: datetime
    hosts: list[HostState]

    @property
    def counted(self) -> list[DeviceState]:
        return counted([d for host in self.hosts for d in host.devices])

    @property
    def reporting(self) -> list[DeviceState]:
        """Those that give readings: neither silent nor lost."""
        return [d for d in self.counted if d.values]

    @property
    def noun(self) -> str:
        """What the counted devices are called."""
        kinds = {d.device.kind for d in self.counted}
        return "GPUs" if kinds & set(ACCELERATORS) else "nodes" if kinds == {DeviceKind.NODE} else "CPUs"

    @property
    def origins(self) -> set[str]:
        """Origins other than real, for the banner."""
        return {state.host.origin for state in self.hosts} - {Origin.REAL}

    def mean(self, metric: str) -> float | None:
        values = [d.values[metric] for d in self.reporting if metric in d.values]
        return sum(values) / len(values) if values else None

    def count(self, health: Health) -> int:
        return sum(d.health is health for d in self.counted)


@dataclass(frozen=True, slots=True)
class Attention:
    """One line of the attention list."""

    health: Health
    title: str
    detail: str
    since: datetime | None
    url: str


def counted(devices: Sequence[DeviceState]) -> list[DeviceState]:
    """Return the devices that figures speak of: whole accelerators where there are any, else CPUs, else nodes.

    A part of a device (a MIG instance) is not counted beside the whole, nor a node's meter beside its devices.
    """
    for kinds in (ACCELERATORS, (DeviceKind.CPU,)):
        found = [d for d in devices if d.device.kind in kinds and d.device.parent_id is None]
        if found:
            return found
    return list(devices)


def total(values: Iterable[float | None]) -> float | None:
    """Return the sum; None where nothing is summed or one part is unknown."""
    known = list(values)
    if not known or any(value is None for value in known):
        return None
    return sum(value for value in known if value is not None)


def fleet_state(now: datetime, *, cluster: str = "") -> FleetState:
    """Return every host with its devices, by name. Three queries, whatever the size of the fleet."""
    hosts = Host.objects.filter(cluster=cluster) if cluster else Host.objects.all()
    return FleetState(now, _states(list(hosts.prefetch_related("devices")), now))


def host_state(host: Host, now: datetime) -> HostState:
    return _states([host], now)[0]


def device_state(device: Device, now: datetime) -> DeviceState:
    state = host_state(device.host, now)
    return next(d for d in state.devices if d.device.pk == device.pk)


def attention(state: FleetState) -> list[Attention]:
    """Return what needs a person, gravest first: silent hosts, then devices that are lost, failing or slowed down."""
    items = []
    for host in state.hosts:
        url = f"/hosts/{host.host.name}/"
        if host.health is Health.SILENT:
            items.append(Attention(Health.CRIT, f"{host.host.name} silent", host.note, host.host.last_seen_at, url))
            continue
        items += [
            Attention(
                d.health,
                f"{host.host.name} {d.device.title}: {d.note}",
                d.device.model,
                None if d.values else d.read_at,  # for how long it has been slow is not known
                f"/devices/{d.device.uuid}/",
            )
            for d in host.devices
            if d.health in {Health.CRIT, Health.WARN}
        ]
    return sorted(items, key=lambda item: item.health is not Health.CRIT)


def device_series(
    devices: Sequence[Device], metrics: Sequence[str], start_ms: int, end_ms: int, points: int
) -> Bucketed:
    """Return min, mean, max (counters: increase) per device and metric, at most `points` buckets."""
    return read.bucketed(devices, metrics, start_ms, end_ms, min(points, MAX_POINTS))


@dataclass(frozen=True, slots=True)
class Trend:
    """One metric over time per group: each list `(n_buckets,)`, None in a gap."""

    times_ms: list[int]
    step_seconds: float
    mean: dict[str, list[float | None]]
    p10: dict[str, list[float | None]]
    p90: dict[str, list[float | None]]
    total: dict[str, list[float | None]]


def trend(
    devices: Sequence[Device], metric: str, start_ms: int, end_ms: int, points: int, *, group_by: str = ""
) -> Trend:
    """Return mean, p10, p90 and sum of a gauge across the devices of each group.

    `group_by` is "" for one group, cluster, model, host, or label:<key>.
    A bucket speaks of the devices that gave a value in it: one that falls silent leaves the sum.
    """
    block = read.bucketed(devices, [metric], start_ms, end_ms, min(points, MAX_POINTS))
    groups: dict[str, list[str]] = {}
    for device in devices:
        groups.setdefault(_group_key(device, group_by), []).append(device.uuid)
    summaries = {key: read.across(block, metric, uuids) for key, uuids in sorted(groups.items())}
    return Trend(
        times_ms=block.times_ms,
        step_seconds=block.step_seconds,
        mean={key: summary.mean for key, summary in summaries.items()},
        p10={key: summary.p10 for key, summary in summaries.items()},
        p90={key: summary.p90 for key, summary in summaries.items()},
        total={key: summary.total for key, summary in summaries.items()},
    )


def _group_key(device: Device, group_by: str) -> str:
    match group_by:
        case "cluster":
            return device.host.cluster
        case "model":
            return device.model
        case "host":
            return device.host.name
        case _ if group_by.startswith("label:"):
            return str(device.host.labels.get(group_by.removeprefix("label:"), ""))
    return ""


def _states(hosts: list[Host], now: datetime) -> list[HostState]:
    latest = read.latest(hosts)
    return [_host_state(host, latest.get(host.pk), now) for host in hosts]


def _host_state(host: Host, latest: read.Latest | None, now: datetime) -> HostState:
    silent = host.is_silent(now)
    accelerators_first = sorted(host.devices.all(), key=lambda d: (not d.is_accelerator, d.kind, d.index))
    devices = [_device_state(device, latest, silent=silent) for device in accelerators_first]
    if silent:
        return HostState(host, Health.SILENT, _silence(host), devices)
    worst = max(devices, key=lambda d: _GRAVITY[d.health], default=None)
    if worst is None or worst.health in {Health.OK, Health.SILENT}:
        return HostState(host, Health.OK, "", devices)
    return HostState(host, worst.health, f"{worst.device.title}: {worst.note}", devices)


_GRAVITY = {Health.OK: 0, Health.SILENT: 1, Health.WARN: 2, Health.CRIT: 3}
_STALE = timedelta(seconds=30)  # behind the other devices of its host, by the host's own clock


def _silence(host: Host) -> str:
    return "no sample yet" if host.last_seen_at is None else f"last sample {host.last_seen_at:%Y-%m-%d %H:%M:%S} UTC"


def _device_state(device: Device, latest: read.Latest | None, *, silent: bool) -> DeviceState:
    newest = latest.devices.get(device.uuid) if latest else None
    if newest is None:
        return DeviceState(device, Health.SILENT, _silence(device.host), None, None, {}, {})
    at, read_at = _time(newest.at_ms), None if newest.read_ms is None else _time(newest.read_ms)
    if silent:
        return DeviceState(device, Health.SILENT, _silence(device.host), at, read_at, {}, {})
    if latest is not None and _time(latest.at_ms) - at > _STALE:
        return DeviceState(device, Health.SILENT, "its host reports, this device does not", at, read_at, {}, {})
    health, note = judge(newest.values, newest.absent)
    return DeviceState(device, health, note, at, read_at, newest.values, newest.absent)


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
