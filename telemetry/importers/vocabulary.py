"""Which column of a recorded file is which metric, and how its text becomes a number in base units. Pure.

Sources: `nvidia-smi --help-query-gpu` for its property names; the canonical names are the catalogue's.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from telemetry.catalog import BY_NAME

_MIB, _MEGA, _PERCENT = 2.0**20, 1e6, 0.01  # what nvidia-smi means where it names no unit (nounits)
# nvidia-smi's properties: name without its unit → (metric, factor to the base unit).
_NVIDIA_SMI: dict[str, tuple[str, float]] = {
    "utilization.gpu": ("gpu_utilization_ratio", _PERCENT),
    "utilization.memory": ("memory_controller_utilization_ratio", _PERCENT),
    "utilization.encoder": ("encoder_utilization_ratio", _PERCENT),
    "utilization.decoder": ("decoder_utilization_ratio", _PERCENT),
    "memory.total": ("memory_total_bytes", _MIB),
    "memory.used": ("memory_used_bytes", _MIB),
    "memory.free": ("memory_free_bytes", _MIB),
    "memory.reserved": ("memory_reserved_bytes", _MIB),
    "temperature.gpu": ("temperature_celsius", 1.0),
    "temperature.memory": ("memory_temperature_celsius", 1.0),
    "power.draw": ("power_draw_watts", 1.0),
    "power.draw.average": ("power_draw_watts", 1.0),
    "power.draw.instant": ("power_draw_instant_watts", 1.0),
    "enforced.power.limit": ("power_limit_watts", 1.0),
    "power.limit": ("power_limit_watts", 1.0),
    "clocks.current.sm": ("sm_clock_hertz", _MEGA),
    "clocks.sm": ("sm_clock_hertz", _MEGA),
    "clocks.max.sm": ("sm_clock_max_hertz", _MEGA),
    "clocks.current.memory": ("memory_clock_hertz", _MEGA),
    "clocks.mem": ("memory_clock_hertz", _MEGA),
    "clocks_event_reasons.active": ("clock_event_reasons", 1.0),
    "clocks_throttle_reasons.active": ("clock_event_reasons", 1.0),
    "pcie.link.gen.current": ("pcie_link_generation", 1.0),
    "pcie.link.gen.gpucurrent": ("pcie_link_generation", 1.0),
    "pcie.link.gen.max": ("pcie_link_generation_max", 1.0),
    "pcie.link.width.current": ("pcie_link_width", 1.0),
    "pcie.link.width.max": ("pcie_link_width_max", 1.0),
    "fan.speed": ("fan_speed_ratio", _PERCENT),
    "ecc.errors.corrected.volatile.total": ("ecc_corrected_total", 1.0),
    "ecc.errors.uncorrected.volatile.total": ("ecc_uncorrected_total", 1.0),
}
_NODE_METER = {"watts": ("power_draw_watts", 1.0)}
_UNIT = re.compile(r"\s*\[([^\]]*)\]$")
# What a header or a cell may say of its unit, by the metric's base unit: the factor to it.
_UNITS: dict[str, dict[str, float]] = {
    "ratio": {"%": 0.01},
    "bytes": {"B": 1.0, "KiB": 2.0**10, "MiB": _MIB, "GiB": 2.0**30, "TiB": 2.0**40, "kB": 1e3, "MB": 1e6, "GB": 1e9},
    "bytes_per_second": {
        "B/s": 1.0,
        "KiB/s": 2.0**10,
        "MiB/s": _MIB,
        "GiB/s": 2.0**30,
        "kB/s": 1e3,
        "MB/s": 1e6,
        "GB/s": 1e9,
    },
    "watts": {"W": 1.0, "mW": 1e-3, "kW": 1e3},
    "joules": {"J": 1.0, "mJ": 1e-3, "kJ": 1e3, "Wh": 3600.0, "kWh": 3.6e6},
    "hertz": {"Hz": 1.0, "kHz": 1e3, "MHz": 1e6, "GHz": 1e9},
    "celsius": {"C": 1.0, "°C": 1.0},
    "seconds": {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9},
}

TIMES = ("time_ms", "timestamp")
HOSTS = ("host", "node")
# What tells a device and what it is, in nvidia-smi's words and the canonical ones.
DEVICES = {"kind": "kind", "device": "device", "index": "index", "uuid": "uuid", "gpu_uuid": "uuid", "pci.bus_id": "pci_bus_id",
           "gpu_bus_id": "pci_bus_id", "name": "model", "gpu_name": "model", "driver_version": "driver_version"}  # fmt: skip

_ABSENT = {"", "n/a", "nan", "none", "null"}
_BRACKETED = re.compile(r"\[.*\]")  # [N/A], [Not Supported], [Unknown Error], [GPU requires reset]
_NUMBER_AND_UNIT = re.compile(r"([-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]{1,3})?)\s*([%°µA-Za-z/]{0,6})")
_RATIO_CEILING = 2.0  # a fan may run above its nominal speed


class ValueUnreadable(ValueError):
    """A cell holds no reading of its metric; the text says what was expected."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column that holds a metric: its place in the row, and the factor to base units where a cell names no unit."""

    position: int
    header: str
    metric: str
    factor: float

    def read(self, cell: str) -> float | None:
        """Return the reading in base units, None where it is absent. Raises ValueUnreadable."""
        words = cell.strip()
        if words.lower() in _ABSENT or _BRACKETED.fullmatch(words):
            return None
        value = self._in_base_units(words)
        highest = _RATIO_CEILING if BY_NAME[self.metric].unit == "ratio" else 2.0**62 * BY_NAME[self.metric].resolution
        if not 0 <= value <= highest:
            limits = "expected a share from 0 to 1" if highest == _RATIO_CEILING else "expected a number from 0 on"
            raise ValueUnreadable(f"{self.header}: {words!r}: {limits}")
        return value

    def _in_base_units(self, words: str) -> float:
        if words.lower().startswith("0x"):
            try:
                return float(int(words, 16))
            except (ValueError, OverflowError):
                raise ValueUnreadable(f"{self.header}: {words!r} is no number") from None
        matched = _NUMBER_AND_UNIT.fullmatch(words)
        if not matched:
            raise ValueUnreadable(f"{self.header}: {words!r} is no number")
        unit = matched[2]
        return float(matched[1]) * (unit_factor(self.metric, unit, self.header) if unit else self.factor)


def unit_factor(metric: str, unit: str, header: str) -> float:
    """Return what turns a number of this unit into the metric's base unit. Raises ValueUnreadable."""
    known = _UNITS.get(BY_NAME[metric].unit, {})
    if unit not in known:
        expected = ", ".join(known) or "no unit"
        raise ValueUnreadable(f"{header}: the unit {unit!r} is not one of {metric}: expected {expected}")
    return known[unit]


@dataclass(frozen=True, slots=True)
class Header:
    """What the columns of a file are; `ignored` are those that name nothing that is known here."""

    time: int
    time_name: str
    host: int | None
    devices: Mapping[str, int]
    metrics: tuple[Column, ...]
    ignored: tuple[str, ...]


def read_header(cells: list[str], chosen: Mapping[str, str]) -> Header:
    """Return the columns' meanings; `chosen` is {header: metric} from `--column`. Raises ValueError with what to do."""
    names = [_UNIT.sub("", cell.strip()) for cell in cells]
    plain = {name.lower(): position for position, name in reversed(list(enumerate(names)))}
    _check_chosen(chosen, [cell.strip() for cell in cells], names)
    time_name = next((name for name in TIMES if name in plain), None)
    if time_name is None:
        raise ValueError(
            f"no column of times: expected {' or '.join(TIMES)}, found {', '.join(names) or 'an empty line'}"
        )
    devices = {meaning: plain[name] for name, meaning in DEVICES.items() if name in plain}
    taken = {plain[time_name], *devices.values(), *(plain[name] for name in HOSTS if name in plain)}
    found: dict[str, Column] = {}
    ignored = []
    for position, name in enumerate(names):
        column = _column(position, cells[position].strip(), name, chosen)
        if column is None:
            if position not in taken:
                ignored.append(cells[position].strip())
        else:
            found.setdefault(column.metric, column)
    if not found:
        raise ValueError(
            f"no column is a known metric (found {', '.join(names)}); name one with --column HEADER=metric; "
            "docs/metrics.md lists the metrics"
        )
    host = next((plain[name] for name in HOSTS if name in plain), None)
    return Header(plain[time_name], time_name, host, devices, tuple(found.values()), tuple(ignored))


def _check_chosen(chosen: Mapping[str, str], *spellings: list[str]) -> None:
    for header, metric in chosen.items():
        if metric not in BY_NAME:
            raise ValueError(f"--column {header}={metric}: there is no metric {metric!r}; docs/metrics.md lists them")
        if not any(header in names for names in spellings):
            raise ValueError(f"--column {header}={metric}: the file has no column {header!r}")


def _column(position: int, header: str, name: str, chosen: Mapping[str, str]) -> Column | None:
    metric, factor = chosen.get(header) or chosen.get(name) or (name if name in BY_NAME else ""), 1.0
    if not metric:
        known = _NVIDIA_SMI.get(name.lower()) or _NODE_METER.get(name.lower())
        if known is None:
            return None
        metric, factor = known
    unit = _UNIT.search(header)
    if unit:
        factor = unit_factor(metric, unit[1].strip(), header)
    return Column(position, header, metric, factor)
