"""The fleet's newest state as Prometheus families, under the project's own names. Called by telemetry/exposition/fragments.py.

What the upper package tells is named as a string. Readings end, they do not freeze: a silent host has no device series, nor
has one that was imported.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum

from django.utils.module_loading import import_string

from fleet.models import Host, Origin
from telemetry.catalog import METRICS, Kind, Metric
from telemetry.exposition.columns import Column, Plan, flat_of, positions_of, template, texts_of
from telemetry.exposition.presence import DeviceNow, HostNow
from telemetry.exposition.textformat import Family, Type, label_text, number_text

Source = Callable[[Sequence[Host], datetime], Iterable[Family]]

EXPOSITION_SOURCES = ["training.hooks.exposition.families"]

HOST_LABELS = ("host", "cluster")
DEVICE_LABELS = ("host", "cluster", "device", "uuid")


class Names(StrEnum):
    """Which of the two namings of the same readings is wanted."""

    STEPWATT = "stepwatt"
    DCGM = "dcgm"


_HOSTS = [
    Family("stepwatt_host", Type.INFO, "Where a host's telemetry comes from.", (*HOST_LABELS, "origin")),
    Family("stepwatt_host_up", Type.GAUGE, "1 where the host reports, 0 where it is silent.", HOST_LABELS),
    Family(
        "stepwatt_host_last_sample_timestamp_seconds",
        Type.GAUGE,
        "When the host's newest sample was taken.",
        HOST_LABELS,
        "seconds",
    ),
]
_DEVICES = [
    Family(
        "stepwatt_device",
        Type.INFO,
        "What a device is, apart from its readings; a MIG instance has a parent and a profile.",
        (*DEVICE_LABELS, "kind", "model", "pci_bus_id", "driver_version", "parent", "profile"),
    ),
    Family(
        "stepwatt_device_up",
        Type.GAUGE,
        "1 where the device gives readings; 0 where it is lost, must be reset, hangs, has no driver, or is not reported.",
        DEVICE_LABELS,
    ),
]
_INFO, _UP = len(_HOSTS), len(_HOSTS) + 1
_FIRST_READING = len(_HOSTS) + len(_DEVICES)


def own_family(metric: Metric) -> Family:
    """Return the metric's empty family. OpenMetrics takes a unit only where the name ends with it."""
    is_counter = metric.kind is Kind.COUNTER
    name = f"stepwatt_{metric.name.removesuffix('_total') if is_counter else metric.name}"
    unit = metric.unit if name.endswith(f"_{metric.unit}") else ""
    return Family(name, Type.COUNTER if is_counter else Type.GAUGE, metric.help, DEVICE_LABELS, unit)


FAMILIES = [*_HOSTS, *_DEVICES, *map(own_family, METRICS)]  # empty: what `OwnLines.fragments` are lines of


def others(hosts: Sequence[Host], now: datetime) -> list[Family]:
    """Return the families of the upper package, filled."""
    found: list[Family] = []
    for name in EXPOSITION_SOURCES:
        source: Source = import_string(name)
        found += source(hosts, now)
    return found


class OwnLines:
    """A host's lines under the own names."""

    def __init__(self, now: HostNow) -> None:
        host = label_text(HOST_LABELS, (now.host.name, now.host.cluster))
        self._heads = [f"{family.sample_name}{{{host}}} " for family in _HOSTS]
        origin = label_text(_HOSTS[0].labels, (now.host.name, now.host.cluster, now.host.origin))
        self._origin = f"{_HOSTS[0].sample_name}{{{origin}}} 1\n".encode()
        texts = [_device_text(now.host, device) for device in now.devices]
        self._info = _info(now)
        self._up = template(_DEVICES[1].sample_name, texts, "%d")
        readings = _readings(now)
        found = positions_of(readings)
        columns = []
        for number, metric in enumerate(METRICS, _FIRST_READING):
            if metric.name in found:
                places = found[metric.name]
                lines = template(FAMILIES[number].sample_name, [texts[device] for device, _ in places])
                columns.append(Column(number, [position for _, position in places], lines))
        self._plan = Plan(readings, columns)

    def fits(self, now: HostNow) -> bool:
        return self._plan.fits(_readings(now))

    def fragments(self, now: HostNow) -> list[bytes]:
        """Return the lines by family, b"" where there are none."""
        found = [self._origin, *self._presence(now), self._info, self._up(tuple(d.is_up for d in now.devices))]
        found += [b""] * len(METRICS)
        numbers = texts_of(flat_of(_readings(now)))
        for column in self._plan.columns:
            found[column.family] = column.fragment(numbers)
        return found

    def _presence(self, now: HostNow) -> tuple[bytes, bytes]:
        up = seen = ""
        if now.host.origin != Origin.IMPORTED:
            up = f"{self._heads[1]}{0 if now.is_silent else 1}\n"
        if now.host.last_seen_at is not None:
            seen = f"{self._heads[2]}{number_text(now.host.last_seen_at.timestamp())}\n"
        return up.encode(), seen.encode()


def _readings(now: HostNow) -> list[Mapping[str, float]]:
    return [device.values for device in now.devices]


def _device_text(host: Host, device: DeviceNow) -> str:
    identity = device.identity
    return label_text(DEVICE_LABELS, (host.name, host.cluster, identity.index, identity.uuid))


def _info(now: HostNow) -> bytes:
    wholes = {device.identity.pk: device.identity.uuid for device in now.devices}
    lines = []
    for d in (device.identity for device in now.devices):
        parent = wholes.get(d.parent_id, "") if d.parent_id is not None else ""
        place = (now.host.name, now.host.cluster, d.index, d.uuid)
        text = label_text(
            _DEVICES[0].labels, (*place, d.kind, d.model, d.pci_bus_id, d.driver_version, parent, d.profile)
        )
        lines.append(f"{_DEVICES[0].sample_name}{{{text}}} 1\n")
    return "".join(lines).encode()
