"""What telemetry's API answers of the newest state, made from the read side's. Called by telemetry/api/router.py."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from ninja import Schema

from telemetry import catalog
from telemetry.catalog import AbsentReason, Metric
from telemetry.events.attention import Attention
from telemetry.health import Health
from telemetry.message.wire import DeviceProcess
from telemetry.newest.fleet_state import DeviceState, FleetState, HostState


class Reading(Schema):
    """A value in its unit, or null with the reason: the catalogue's, `silent`, `not_offered`, or `incomplete`.

    A sum that is `incomplete` may stand with its value: it is over those of the counted devices that give one.
    """

    value: float | None
    unit: str
    reason: str | None = None


class DeviceItem(Schema):
    uuid: str
    host: str
    cluster: str
    origin: str
    kind: str
    index: int | None
    model: str
    pci_bus_id: str
    driver_version: str
    health: Health
    note: str
    advice: str
    at: datetime | None
    profile: str
    readings: dict[str, Reading]

    @classmethod
    def of(cls, state: DeviceState) -> "DeviceItem":
        return cls(**_device_fields(state))


class ProcessItem(Schema):
    """A process that uses a device; null or "" is what the host does not tell. `only_draws`: it computes nothing there."""

    pid: int | None
    command: str
    user: str
    memory_bytes: int | None
    sm_ratio: float | None
    container: str
    slurm_job: str
    only_draws: bool


class DeviceDetail(DeviceItem):
    """A device with the one that it is a part of, its own parts, and who uses it: null where that is not known."""

    parent: str | None
    instances: list[str]
    processes: list[ProcessItem] | None
    processes_at: datetime | None

    @classmethod
    def of(cls, state: DeviceState, host: HostState | None = None) -> "DeviceDetail":
        """Return the device among the others of its `host`."""
        whole = host.whole_of(state.device) if host else None
        users = state.users
        return cls(
            **_device_fields(state),
            parent=whole.device.uuid if whole else None,
            instances=[part.device.uuid for part in host.parts_of(state.device)] if host else [],
            processes=[_process(process) for process in users.processes] if users else None,
            processes_at=users.at if users else None,
        )


def _process(process: DeviceProcess) -> ProcessItem:
    return ProcessItem(**asdict(process) | {"pid": process.pid or None})


def _device_fields(state: DeviceState) -> dict[str, Any]:
    device = state.device
    return {
        "uuid": device.uuid,
        "host": device.host.name,
        "cluster": device.host.cluster,
        "origin": device.host.origin,
        "kind": device.kind,
        "index": device.index,
        "model": device.model,
        "pci_bus_id": device.pci_bus_id,
        "driver_version": device.driver_version,
        "profile": device.profile,
        "health": state.health,
        "note": state.note,
        "advice": state.advice,
        "at": state.at,
        "readings": {metric.name: reading(state, metric) for metric in catalog.METRICS},
    }


class HostItem(Schema):
    name: str
    cluster: str
    labels: dict[str, str]
    origin: str
    health: Health
    note: str
    last_seen_at: datetime | None
    device_count: int
    readings: dict[str, Reading]

    @classmethod
    def of(cls, state: HostState) -> "HostItem":
        return cls(**_host_fields(state))


class TopologyItem(Schema):
    """How devices are joined, once a pair: [uuid, uuid, way] with the ways of `nvidia-smi topo`; NUMA nodes by uuid."""

    links: list[tuple[str, str, str]]
    numa: dict[str, int]


class HostDetail(HostItem):
    """A host with all its devices (its parts and itself too), what the agent found installed, and the agent's own cost."""

    software: dict[str, str]
    agent: dict[str, float]
    topology: TopologyItem
    devices: list[DeviceDetail]

    @classmethod
    def of(cls, state: HostState) -> "HostDetail":
        software = {str(name): str(version) for name, version in state.host.software.items()}
        devices = [DeviceDetail.of(device, state) for device in state.devices]
        told: dict[str, Any] = state.host.topology
        topology = TopologyItem(links=told.get("links", []), numa=told.get("numa", {}))
        return cls(**_host_fields(state), software=software, agent=state.agent, topology=topology, devices=devices)


def _host_fields(state: HostState) -> dict[str, Any]:
    host = state.host
    return {
        "name": host.name,
        "cluster": host.cluster,
        "labels": {str(key): str(value) for key, value in host.labels.items()},
        "origin": host.origin,
        "health": state.health,
        "note": state.note,
        "last_seen_at": host.last_seen_at,
        "device_count": len(state.counted),
        "readings": {"power_draw_watts": _summed(state.power_watts, is_silent=state.health is Health.SILENT)},
    }


def reading(state: DeviceState, metric: Metric) -> Reading:
    """Return the newest reading of a metric, or why there is none."""
    value = state.values.get(metric.name)
    if value is not None:
        return Reading(value=value, unit=metric.unit)
    if state.health is Health.SILENT:
        return Reading(value=None, unit=metric.unit, reason="silent")
    absent = state.absent.get(metric.name)
    return Reading(value=None, unit=metric.unit, reason=AbsentReason(absent) if absent else "not_offered")


def _summed(watts: float | None, *, is_silent: bool) -> Reading:
    if watts is not None:
        return Reading(value=watts, unit="watts")
    return Reading(value=None, unit="watts", reason="silent" if is_silent else "incomplete")


class AttentionItem(Schema):
    health: Health
    title: str
    detail: str
    since: datetime | None
    acknowledged_by: str
    url: str

    @classmethod
    def of(cls, item: Attention) -> "AttentionItem":
        return cls(
            health=item.health, title=item.title, detail=item.detail, since=item.since,
            acknowledged_by=item.acknowledged_by, url=item.url,
        )  # fmt: skip


class Summary(Schema):
    """The first screen: how many of what in which health, and the fleet's means and power."""

    at: datetime
    hosts: dict[str, int]
    devices: dict[str, int]
    counted: str
    origins: list[str]
    readings: dict[str, Reading]
    attention: list[AttentionItem]

    @classmethod
    def of(cls, state: FleetState, attention: list[Attention]) -> "Summary":
        means = [catalog.BY_NAME[name] for name in ("gpu_utilization_ratio", "temperature_celsius")]
        silent = not state.reporting
        return cls(
            at=state.now,
            hosts={health: sum(host.health is health for host in state.hosts) for health in Health},
            devices={health: state.count(health) for health in Health},
            counted=state.noun,
            origins=sorted(state.origins),
            readings={
                **{metric.name: _mean(state.mean(metric.name), metric, is_silent=silent) for metric in means},
                "power_draw_watts": _power(state),
            },
            attention=[AttentionItem.of(item) for item in attention],
        )


def _power(state: FleetState) -> Reading:
    """Return the power of the powered devices that give it, as the first screen does; `incomplete` where some do not."""
    known = state.known_power_watts
    if not known:
        return Reading(value=None, unit="watts", reason="not_offered" if state.reporting else "silent")
    is_whole = len(known) == len(state.powered)
    return Reading(value=sum(known), unit="watts", reason=None if is_whole else "incomplete")


def _mean(value: float | None, metric: Metric, *, is_silent: bool) -> Reading:
    if value is not None:
        return Reading(value=value, unit=metric.unit)
    return Reading(value=None, unit=metric.unit, reason="silent" if is_silent else "not_offered")


class MapItem(Schema):
    """One cell of the host map."""

    uuid: str
    host: str
    cluster: str
    kind: str
    index: int | None
    model: str
    health: Health
    reading: Reading

    @classmethod
    def of(cls, state: DeviceState, metric: Metric) -> "MapItem":
        device = state.device
        return cls(
            uuid=device.uuid,
            host=device.host.name,
            cluster=device.host.cluster,
            kind=device.kind,
            index=device.index,
            model=device.model,
            health=state.health,
            reading=reading(state, metric),
        )


class MapAnswer(Schema):
    metric: str
    items: list[MapItem]
    count: int
