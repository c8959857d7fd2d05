"""What stands below a host's cards: who uses its devices, how they are joined, the host as a whole, its agent.

Called by its page.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from telemetry import catalog
from telemetry.catalog import AbsentReason, Metric
from telemetry.health import Health
from telemetry.message.wire import DeviceProcess
from telemetry.newest.fleet_state import DeviceState, HostState
from telemetry.series import trends

_NODE = (
    "power_draw_watts",
    "host_cpu_utilization_ratio",
    "host_memory_used_bytes",
    "host_memory_total_bytes",
    "host_cpu_pressure_ratio",
    "host_memory_pressure_ratio",
    "host_io_pressure_ratio",
    "host_clock_offset_seconds",
)
_AGENT = (
    "agent_resident_bytes",
    "agent_tick_lateness_seconds",
    "agent_batches_sent_total",
    "agent_batches_spooled",
    "agent_batches_dropped_total",
    "agent_step_frames_refused_total",
)
_COST_SPAN = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class User:
    """A process on one of the host's devices."""

    state: DeviceState
    process: DeviceProcess


@dataclass(frozen=True, slots=True)
class Joined:
    """One row of the topology: a device, its way to each device in order ("X" to itself, "" where unknown), its NUMA node."""

    state: DeviceState
    ways: list[str]
    numa: int | None


@dataclass(frozen=True, slots=True)
class Quantity:
    metric: Metric
    value: float | None
    why_absent: str


def users(state: HostState) -> list[User]:
    return [User(d, process) for d in state.devices if d.users for process in d.users.processes]


def why_no_users(state: HostState) -> str:
    """Return what stands where no process is shown: nobody uses a device, or nobody knows."""
    if any(d.users for d in state.devices):
        return "No process uses a device of this host."
    why = state.note if state.health is Health.SILENT else "the host does not tell"
    return f"Who uses the devices is not known: {why}."


def topology(state: HostState) -> list[Joined]:
    """Return the matrix of `nvidia-smi topo` over the devices that the host names in it; [] where it names none."""
    told: Mapping[str, Any] = state.host.topology
    ways = {frozenset((one, other)): way for one, other, way in told.get("links", [])}
    numa: Mapping[str, int] = told.get("numa", {})
    named = {uuid for pair in ways for uuid in pair} | set(numa)
    shown = [d for d in state.wholes if d.device.uuid in named and d.device.is_accelerator]
    return [
        Joined(
            row,
            ["X" if row is column else ways.get(frozenset((row.device.uuid, column.device.uuid)), "") for column in shown],
            numa.get(row.device.uuid),
        )
        for row in shown
    ]  # fmt: skip


def node_rows(state: HostState) -> list[Quantity]:
    """Return what the host as a whole reads; [] where its agent does not tell."""
    node = state.node
    return [] if node is None else _rows(node, _NODE)


def is_released(state: HostState) -> bool:
    """Tell whether the agent has let go of the driver of any of the host's devices."""
    return any(AbsentReason.RELEASED in d.absent.values() for d in state.devices)


def agent_cost(state: HostState, now: datetime) -> dict[str, Any]:
    """Return the agent's share of one core over the last minutes, and its newest figures; empty where it tells none."""
    node = state.node
    rows = [] if node is None else [row for row in _rows(node, _AGENT) if row.value is not None]
    share = None if node is None or not rows else _cpu_share(node, now)
    return {
        "cpu_share": share,
        "rows": rows,
        "minutes": int(_COST_SPAN.total_seconds() / 60),
        "node": node,
        "state": state,
    }


def _cpu_share(node: DeviceState, now: datetime) -> float | None:
    """Return CPU seconds per second of the time that samples cover."""
    end_ms = int(now.timestamp() * 1000)
    start_ms = end_ms - int(_COST_SPAN.total_seconds() * 1000)
    block = trends.device_series([node.device], ["agent_cpu_seconds_total"], start_ms, end_ms, 11)
    found = block.of(node.device.uuid, "agent_cpu_seconds_total")
    seconds = float(np.nansum(found.grew_seconds))
    return float(np.nansum(found.increase)) / seconds if seconds else None


def _rows(state: DeviceState, names: tuple[str, ...]) -> list[Quantity]:
    return [Quantity(catalog.BY_NAME[name], state.values.get(name), state.why_absent(name)) for name in names]
