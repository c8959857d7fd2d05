"""The fleet's NVIDIA devices under dcgm-exporter's names, labels, types and units. Called by the exposition.

Dashboards and alert rules that were made for dcgm-exporter work unchanged.

Source: dcgm-exporter's etc/default-counters.csv and dcp-metrics-included.csv, and the text that it prints.
"""

from collections.abc import Sequence
from math import floor

from django.conf import settings

from fleet.models import DeviceKind
from telemetry.catalog import METRICS, Kind, Metric
from telemetry.queries import DeviceState
from telemetry.textformat import Family, Type, label_text

_UNITS = {"ratio": "%", "bytes": "MiB", "joules": "mJ", "hertz": "MHz", "watts": "W", "celsius": "C"}


def families(devices: Sequence[DeviceState]) -> list[Family]:
    """Return one family per metric that has a DCGM name; devices of other vendors are left out."""
    names = _label_names()
    states = [d for d in devices if d.device.kind == DeviceKind.NVIDIA]
    labelled = [(label_text(names, _label_values(d)), d.values) for d in states]
    found = []
    for metric in METRICS:
        if not metric.dcgm_name:
            continue
        family = Family(metric.dcgm_name, _type(metric), _help(metric), names)
        family.extend(
            (labels, _text(metric, values[metric.name])) for labels, values in labelled if metric.name in values
        )
        found.append(family)
    return found


def unit(metric: Metric) -> str:
    """Return the unit of the DCGM name as dcgm-exporter writes it, "" for plain counts and codes."""
    return _UNITS.get(metric.unit, "")


def _label_names() -> tuple[str, ...]:
    hostname = settings.STEPWATT_DCGM_HOSTNAME_LABEL
    return ("gpu", "UUID", "pci_bus_id", "device", "modelName", hostname, "DCGM_FI_DRIVER_VERSION")


def _label_values(state: DeviceState) -> tuple[object, ...]:
    device = state.device
    return (
        device.index,
        device.uuid,
        device.pci_bus_id,
        f"nvidia{device.index}",
        device.model,
        device.host.name,
        device.driver_version,
    )


def _type(metric: Metric) -> Type:
    return Type.BARE_COUNTER if metric.kind is Kind.COUNTER else Type.GAUGE


def _help(metric: Metric) -> str:
    return f"{metric.label} (in {unit(metric)})." if unit(metric) else f"{metric.label}."


def _text(metric: Metric, value: float) -> str:
    """Return the value as dcgm-exporter prints it: power with six decimals, everything else as an integer.

    Rounded before it is cut, so that a ratio of 0.29 is 29 % and 470.9 MiB are 470.
    """
    scaled = value * metric.dcgm_factor
    return f"{scaled:.6f}" if metric.unit == "watts" else str(floor(round(scaled, 3)))
