"""The fleet's NVIDIA devices under dcgm-exporter's names, labels, types and units. Called by telemetry/exposition/fragments.py.

Dashboards and alert rules that were made for dcgm-exporter work unchanged.

Source: dcgm-exporter's etc/default-counters.csv, and its rendermetrics and collector packages (4.x).
"""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from django.conf import settings

from fleet.models import DeviceKind
from telemetry.catalog import BY_NAME, METRICS, Kind, Metric
from telemetry.exposition.columns import Column, Lines, Plan, Readings, flat_of, positions_of, template, texts_of
from telemetry.exposition.presence import DeviceNow, HostNow
from telemetry.exposition.textformat import Family, Type, label_text
from telemetry.nvidia import xid
from telemetry.store.newest import Identity

_METRICS = [metric for metric in METRICS if metric.dcgm_name]
_UNITS = {
    ("ratio", 100): "%",
    ("bytes", 1 / 2**20): "MiB",
    ("joules", 1000): "mJ",
    ("hertz", 1e-6): "MHz",
    ("seconds", 1e9): "ns",
    ("watts", 1): "W",
    ("celsius", 1): "C",
    ("bytes_per_second", 1): "B/s",
    ("bytes_per_second", 1 / 1024e3): "1000 KiB/s",
}
_RATES_CALLED_COUNTERS = {"DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL"}
_DOUBLES = {m.dcgm_name for m in _METRICS if m.unit == "watts" or (m.unit == "ratio" and m.dcgm_factor == 1)}
_XID = "DCGM_FI_DEV_XID_ERRORS"
_XID_LABELS = ("err_code", "err_msg")
_MIG_LABELS = ("GPU_I_PROFILE", "GPU_I_ID")
_INT64 = 2.0**62  # within DCGM's integers, and exact in floating point
_ALMOST = 5e-4  # 0.29 of 100 % is 28.999… in floating point: what lies this little below an integer is that integer


def families() -> list[Family]:
    """Return the empty families of all metrics that have a DCGM name."""
    names = label_names()
    return [
        Family(m.dcgm_name, _type(m), _help(m), (*names, *_XID_LABELS) if m.dcgm_name == _XID else names)
        for m in _METRICS
    ]


def label_names() -> tuple[str, ...]:
    """Return the labels of a whole GPU; a MIG instance has two more."""
    hostname = settings.STEPWATT_DCGM_HOSTNAME_LABEL
    return ("gpu", "UUID", "pci_bus_id", "device", "modelName", hostname, "DCGM_FI_DRIVER_VERSION")


def unit(metric: Metric) -> str:
    """Return the unit of the DCGM name as dcgm-exporter writes it, "" for plain counts, codes and shares of one."""
    return _UNITS.get((metric.unit, metric.dcgm_factor), "")


class DcgmLines:
    """A host's lines under DCGM's names; devices of other vendors are left out."""

    def __init__(self, now: HostNow) -> None:
        self._wholes = {device.identity.pk: device.identity for device in now.devices}
        readings = _readings(now)
        found = positions_of(readings)
        texts = [self._labels(device, now.host.name) for device in _of_nvidia(now)]
        columns = []
        for number, metric in enumerate(_METRICS):
            if metric.name in found:
                places = found[metric.name]
                lines = _lines(metric, [texts[device] for device, _ in places])
                columns.append(Column(number, [position for _, position in places], lines))
        self._plan = Plan(readings, columns)
        self._scale = _Scale(readings)

    def fits(self, now: HostNow) -> bool:
        return self._plan.fits(_readings(now))

    def fragments(self, now: HostNow) -> list[bytes]:
        """Return the lines by family, b"" where there are none."""
        found = [b""] * len(_METRICS)
        if self._plan.columns:
            numbers = self._scale.texts(flat_of(_readings(now)))
            for column in self._plan.columns:
                found[column.family] = column.fragment(numbers)
        return found

    def _labels(self, device: DeviceNow, host: str) -> str:
        """A MIG instance wears its GPU's labels, and its own size and number beside them."""
        part = device.identity
        whole = self._wholes.get(part.parent_id, part) if part.parent_id is not None else part
        names, values = list(label_names()), _label_values(whole, host)
        if part.profile:
            names[5:5] = _MIG_LABELS
            values[5:5] = [part.profile, part.index]
        return label_text(names, values)


class _Scale:
    """From base units to DCGM's, all readings of a host at once: integers as dcgm-exporter cuts them, and doubles."""

    def __init__(self, readings: Readings) -> None:
        metrics = [BY_NAME.get(name) for values in readings for name in values]
        self._factors = np.array([metric.dcgm_factor if metric else 1.0 for metric in metrics])
        self._doubles = [n for n, metric in enumerate(metrics) if metric is not None and metric.dcgm_name in _DOUBLES]

    def texts(self, flat: Sequence[float]) -> list[bytes]:
        scaled = np.array(flat, dtype=np.float64) * self._factors
        texts = texts_of(np.clip(np.floor(scaled + _ALMOST), -_INT64, _INT64).astype(np.int64).tolist())
        for n in self._doubles:
            texts[n] = b"%.6f" % scaled[n]
        return texts


def _of_nvidia(now: HostNow) -> list[DeviceNow]:
    return [device for device in now.devices if device.identity.kind == DeviceKind.NVIDIA]


def _readings(now: HostNow) -> list[Mapping[str, float]]:
    return [device.values for device in _of_nvidia(now)]


def _label_values(gpu: Identity, host: str) -> list[object]:
    return [gpu.index, gpu.uuid, gpu.pci_bus_id, f"nvidia{gpu.index}", gpu.model, host, gpu.driver_version]


def _lines(metric: Metric, label_texts: Sequence[str]) -> Lines:
    return partial(_xid_lines, label_texts) if metric.dcgm_name == _XID else template(metric.dcgm_name, label_texts)


def _xid_lines(label_texts: Sequence[str], codes: bytes | tuple[bytes, ...]) -> bytes:
    """The code is a label, too: a device's series ends where another code begins."""
    lines = []
    for text, number in zip(label_texts, codes if isinstance(codes, tuple) else (codes,), strict=True):
        code = int(number)
        lines.append(f"{_XID}{{{text},{label_text(_XID_LABELS, (code, xid.name(code)))}}} {code}\n")
    return "".join(lines).encode()


def _type(metric: Metric) -> Type:
    is_counter = metric.kind is Kind.COUNTER or metric.dcgm_name in _RATES_CALLED_COUNTERS
    return Type.BARE_COUNTER if is_counter else Type.GAUGE


def _help(metric: Metric) -> str:
    return f"{metric.label} (in {unit(metric)})." if unit(metric) else f"{metric.label}."
