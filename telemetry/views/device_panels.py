"""What stands beside a device's charts: its tiles, the health of its memory, its links, and every reading. Called by the page."""

from collections.abc import Sequence
from dataclasses import dataclass

from fleet import units
from fleet.models import DeviceKind
from telemetry import catalog
from telemetry.catalog import Metric
from telemetry.newest.fleet_state import DeviceState, HostState
from telemetry.newest.headlines import Headline
from telemetry.views.code_words import code_words
from telemetry.views.host import metric_label

_TILES = (
    ("sm_active_ratio", "SMs active"),
    ("tensor_active_ratio", "Tensor pipe active"),
    ("gpu_utilization_ratio", "Utilisation"),
    ("memory_used_bytes", "Memory"),
    ("power_draw_watts", "Power"),
    ("temperature_celsius", "Temperature"),
    ("sm_clock_hertz", "Clock"),
)
_NODE_TILES = (
    ("power_draw_watts", "Power at the wall"),
    ("host_cpu_utilization_ratio", "CPU"),
    ("host_memory_used_bytes", "Memory"),
    ("host_cpu_pressure_ratio", "CPU pressure"),
    ("host_memory_pressure_ratio", "Memory pressure"),
    ("host_io_pressure_ratio", "I/O pressure"),
)
_LIMITS = {
    "memory_used_bytes": "memory_total_bytes",
    "host_memory_used_bytes": "host_memory_total_bytes",
    "power_draw_watts": "power_limit_watts",
    "sm_clock_hertz": "sm_clock_max_hertz",
}
_MOST_TILES = 6
_MEMORY = (
    "ecc_corrected_total",
    "ecc_uncorrected_total",
    "remapped_rows_corrected_total",
    "remapped_rows_uncorrected_total",
    "row_remap_pending",
    "row_remap_failure",
    "xid_last",
    "recovery_action",
)
_LINKS = (
    "pcie_link_generation",
    "pcie_link_width",
    "pcie_tx_bytes_per_second",
    "pcie_rx_bytes_per_second",
    "pcie_replay_total",
    "nvlink_tx_bytes_per_second",
    "nvlink_rx_bytes_per_second",
    "nvlink_bytes_per_second",
    "nvlink_errors_total",
    "nvlink_symbol_errors_total",
    "nvlink_recoveries_failed_total",
)
_BAD = {
    "ecc_uncorrected_total": "crit",
    "row_remap_failure": "crit",
    "recovery_action": "crit",
    "row_remap_pending": "warn",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """A row of a table: a value in base units with its words, or the reason why there is none; `mark` is a health's."""

    metric: Metric
    label: str
    value: float | None
    words: str
    absent: str
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Readings:
    """What a device gives, what it should give and does not, and what its kind never gives."""

    known: list[Reading]
    absent: list[Reading]
    never: str


def tiles(state: DeviceState, host: HostState) -> list[Headline]:
    """Return at most six figures: where a device tells how active its SMs are, that is more than its utilisation."""
    wanted = _NODE_TILES if state.device.kind == DeviceKind.NODE else _TILES
    given = [pair for pair in wanted if pair[0] in state.values or pair[0] in state.absent]
    if any(name == "sm_active_ratio" and name in state.values for name, _ in given):
        given = [pair for pair in given if pair[0] != "gpu_utilization_ratio"]
    return [_tile(state, host, name, label) for name, label in (given or wanted)][:_MOST_TILES]


def _tile(state: DeviceState, host: HostState, name: str, label: str) -> Headline:
    value = state.values.get(name)
    return Headline(
        label=label,
        value=value,
        unit=catalog.BY_NAME[name].unit,
        note="" if value is None else _beside(state, host, name, value),
        href="",
        why_unknown=state.why_absent(name),
    )


def _beside(state: DeviceState, host: HostState, name: str, value: float) -> str:
    """Return what a figure is to be read against: its limit, or its peers of the same model on this host; power both."""
    metric, words = catalog.BY_NAME[name], []
    limit = state.values.get(_LIMITS.get(name, ""))
    if limit and metric.unit != "watts":
        return f"{units.quantity(value / limit, 'ratio')} of {units.quantity(limit, metric.unit)}"
    if limit:
        words.append(f"of {units.quantity(limit, metric.unit)}")
    peers = [
        d.values[name] for d in host.counted
        if d.device.pk != state.device.pk and d.device.model == state.device.model and name in d.values
    ]  # fmt: skip
    if peers and not state.is_part:
        words.append(f"peers {units.quantity(sum(peers) / len(peers), metric.unit)}")
    return " · ".join(words)


def memory(state: DeviceState) -> list[Reading]:
    return _offered(state, _MEMORY)


def links(state: DeviceState) -> list[Reading]:
    return _offered(state, _LINKS)


def _offered(state: DeviceState, names: Sequence[str]) -> list[Reading]:
    """Return the rows of what the device gives, or should give."""
    return [
        reading(state, catalog.BY_NAME[name]) for name in names
        if name in state.values or state.absent.get(name, "not_supported") != "not_supported"
    ]  # fmt: skip


def readings(state: DeviceState) -> Readings:
    rows = [reading(state, metric) for metric in catalog.METRICS]
    is_told = bool(state.values or state.absent)
    of_host = state.device.kind == DeviceKind.NODE
    never = [
        row.label for row in rows
        if is_told and row.metric.name not in state.values | state.absent
        and row.metric.name.startswith(("host_", "agent_")) is of_host
    ]  # fmt: skip
    return Readings(
        known=[row for row in rows if not row.absent],
        absent=[row for row in rows if row.absent and (not is_told or row.metric.name in state.absent)],
        never=", ".join(never),
    )


def reading(state: DeviceState, metric: Metric) -> Reading:
    value, label = state.values.get(metric.name), metric_label(metric.name, [state])
    if value is None:
        return Reading(metric, label, None, "", state.why_absent(metric.name))
    mark = _BAD.get(metric.name, "") if value else ""
    return Reading(metric, label, value, _words(state, metric, value), "", mark)


def _words(state: DeviceState, metric: Metric, value: float) -> str:
    """Return the words of a code, and of a link against what it could be; "" for a quantity."""
    if metric.name in {"pcie_link_generation", "pcie_link_width"}:
        most = state.values.get(f"{metric.name}_max")
        return f"{value:.0f}" if most is None or most == value else f"{value:.0f} of {most:.0f}"
    return code_words(metric.name, value)
