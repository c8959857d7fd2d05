"""The fleet's newest state as Prometheus families: own names, DCGM's names, and the agents' own cost.

Called by the /metrics view, the metrics documentation and the bench. What the upper package tells is named as
a string. Readings end, they do not freeze: a silent host has no device series, nor has one that was imported.
"""

from collections.abc import Callable, Container, Iterable, Sequence
from datetime import datetime
from enum import StrEnum

from django.utils.module_loading import import_string

from fleet.models import Host, Origin
from telemetry import dcgm
from telemetry.catalog import METRICS, AbsentReason, Kind, Metric
from telemetry.health import Health
from telemetry.queries import DeviceState, FleetState, HostState
from telemetry.textformat import Family, Type, label_text, number_text

Source = Callable[[Sequence[Host], datetime], Iterable[Family]]

EXPOSITION_SOURCES = ["training.exposition.families"]

HOST_LABELS = ("host", "cluster")
DEVICE_LABELS = ("host", "cluster", "device", "uuid")
_GONE = {AbsentReason.GPU_IS_LOST, AbsentReason.RESET_REQUIRED}


class Names(StrEnum):
    """Which of the two namings of the same readings is wanted."""

    STEPWATT = "stepwatt"
    DCGM = "dcgm"


def families(state: FleetState, names: Iterable[Names]) -> list[Family]:
    """Return the families of the wanted namings; those that have nothing to say are there, without lines."""
    wanted = set(names)
    found = of_telemetry(state, wanted)
    if Names.STEPWATT in wanted:
        hosts = [h.host for h in state.hosts]
        for name in EXPOSITION_SOURCES:
            source: Source = import_string(name)
            found += source(hosts, state.now)
    return found


def of_telemetry(state: FleetState, names: Container[Names]) -> list[Family]:
    """Return the families that need no more than the state: all but those of the upper package."""
    live = [h for h in state.hosts if h.health is not Health.SILENT and h.host.origin != Origin.IMPORTED]
    devices = [d for host in live for d in host.devices]
    found: list[Family] = []
    if Names.STEPWATT in names:
        found += [*_hosts(state.hosts), *_identity(devices), *_readings(devices)]
    if Names.DCGM in names:
        found += dcgm.families(devices)
    return found


def host_labels(host: Host) -> str:
    return label_text(HOST_LABELS, (host.name, host.cluster))


def _hosts(states: Sequence[HostState]) -> list[Family]:
    info = Family("stepwatt_host", Type.INFO, "Where a host's telemetry comes from.", (*HOST_LABELS, "origin"))
    up = Family("stepwatt_host_up", Type.GAUGE, "1 where the host reports, 0 where it is silent.", HOST_LABELS)
    seen = Family(
        "stepwatt_host_last_sample_timestamp_seconds",
        Type.GAUGE,
        "When the host's newest sample was taken.",
        HOST_LABELS,
        "seconds",
    )
    for state in states:
        host, labels = state.host, host_labels(state.host)
        info.add(label_text(info.labels, (host.name, host.cluster, host.origin)), "1")
        if host.origin != Origin.IMPORTED:
            up.add(labels, "0" if state.health is Health.SILENT else "1")
        if host.last_seen_at is not None:
            seen.add(labels, number_text(host.last_seen_at.timestamp()))
    return [info, up, seen]


def _identity(states: Sequence[DeviceState]) -> list[Family]:
    info = Family(
        "stepwatt_device",
        Type.INFO,
        "What a device is, apart from its readings.",
        (*DEVICE_LABELS, "kind", "model", "pci_bus_id", "driver_version"),
    )
    up = Family(
        "stepwatt_device_up",
        Type.GAUGE,
        "0 where the device fell off the bus, must be reset, or is no longer reported by its host.",
        DEVICE_LABELS,
    )
    for state in states:
        d = state.device
        identity = (*_device_values(state), d.kind, d.model, d.pci_bus_id, d.driver_version)
        info.add(label_text(info.labels, identity), "1")
        gone = state.health is Health.SILENT or not _GONE.isdisjoint(state.absent.values())
        up.add(label_text(DEVICE_LABELS, _device_values(state)), "0" if gone else "1")
    return [info, up]


def _readings(states: Sequence[DeviceState]) -> list[Family]:
    labelled = [(label_text(DEVICE_LABELS, _device_values(state)), state.values) for state in states]
    found = []
    for metric in METRICS:
        family = own_family(metric)
        family.extend(
            (labels, number_text(values[metric.name])) for labels, values in labelled if metric.name in values
        )
        found.append(family)
    return found


def own_family(metric: Metric) -> Family:
    """Return the metric's empty family. OpenMetrics takes a unit only where the name ends with it."""
    is_counter = metric.kind is Kind.COUNTER
    name = f"stepwatt_{metric.name.removesuffix('_total') if is_counter else metric.name}"
    unit = metric.unit if name.endswith(f"_{metric.unit}") else ""
    return Family(name, Type.COUNTER if is_counter else Type.GAUGE, metric.help, DEVICE_LABELS, unit)


def _device_values(state: DeviceState) -> tuple[object, ...]:
    device = state.device
    return device.host.name, device.host.cluster, device.index, device.uuid
