"""A simulated host beside its GPUs: its processors, and the node as a whole with its agent. Made by the machine. No Django."""

import random
from collections.abc import Callable
from typing import Protocol
from uuid import NAMESPACE_DNS, uuid5

from telemetry.agent.backends.protocol import Reading
from telemetry.message.wire import DeviceInfo, DeviceKind
from telemetry.simulation.load import Load
from telemetry.simulation.source import Source

NAMESPACE = uuid5(NAMESPACE_DNS, "simulated.stepwatt.invalid")
_SKEW_SECONDS = 12.5
_MEMORY_BYTES = 2 * 2**40
CPU_WATTS, NODE_WATTS = 420.0, 900.0  # both sockets under light load; fans, network and losses of the supplies


class Chassis(Protocol):
    """What is asked of the machine whose node it is; times are UTC seconds, the counts its agent's."""

    full_until: float
    skewed_until: float
    n_batches: int
    n_dropped: int

    def watts(self) -> float: ...

    def load(self, now: float) -> Load: ...


class Node:
    """The processors, and the host as a whole with its agent."""

    def __init__(self, host: str, machine: Chassis, clock: Callable[[], float]) -> None:
        self._machine, self._clock = machine, clock
        self._cpu = DeviceInfo(
            str(uuid5(NAMESPACE, f"{host}/cpu")), DeviceKind.CPU, 0, "AMD EPYC 9654 96-Core Processor"
        )
        self._host = DeviceInfo(str(uuid5(NAMESPACE, f"{host}/node")), DeviceKind.NODE, 0, "simulated host")
        self._started = self._read_at = clock()
        self._cpu_joules = self._joules = 0.0
        self._choose = random.Random(host)  # noqa: S311 — a simulation is to be repeatable
        self._agent_seconds = 0.0

    def sources(self) -> list[Source]:
        return [Source(self._cpu, self._read_cpu), Source(self._host, self._read_host)]

    def _read_cpu(self) -> dict[str, Reading]:
        now = self._clock()
        seconds, self._read_at = now - self._read_at, now
        busy = 0.04 + 0.11 * self._machine.load(now).sm + self._choose.uniform(0, 0.02)
        watts = CPU_WATTS * (0.4 + 2.0 * busy)
        self._cpu_joules += watts * seconds
        self._joules += self._machine.watts() * seconds
        used = int(_MEMORY_BYTES * (0.11 + busy)) // 4096 * 4096
        return {
            "gpu_utilization_ratio": busy,
            "memory_total_bytes": _MEMORY_BYTES,
            "memory_used_bytes": used,
            "memory_free_bytes": _MEMORY_BYTES - used,
            "sm_clock_hertz": round(3.4e9 - 2e9 * busy, -6),
            "temperature_celsius": round(40 + 90 * busy, 1),
            "power_draw_watts": watts,
            "energy_joules_total": self._cpu_joules,
        }

    def _read_host(self) -> dict[str, Reading]:
        now = self._clock()
        busy = 0.04 + 0.11 * self._machine.load(now).sm + self._choose.uniform(0, 0.02)
        return {
            "host_cpu_utilization_ratio": busy,
            "host_memory_total_bytes": _MEMORY_BYTES,
            "host_memory_used_bytes": int(_MEMORY_BYTES * (0.11 + busy)) // 4096 * 4096,
            "host_cpu_pressure_ratio": 0.0,
            "host_memory_pressure_ratio": 0.0,
            "host_io_pressure_ratio": round(self._choose.uniform(0, 0.01), 4),
            "power_draw_watts": self._machine.watts(),
            "energy_joules_total": self._joules,
            **self._agent(now),
        }

    def _agent(self, now: float) -> dict[str, Reading]:
        """The cost of an agent on a host of its own: this process makes thousands of them."""
        self._agent_seconds += self._choose.uniform(0.004, 0.008)
        return {
            "agent_cpu_seconds_total": self._agent_seconds,
            "agent_resident_bytes": 58 * 2**20,
            "agent_tick_lateness_seconds": abs(self._choose.gauss(0.0003, 0.0002)),
            "agent_batches_sent_total": self._machine.n_batches,
            "agent_batches_spooled": 0,
            "agent_batches_dropped_total": self._machine.n_dropped,
            "agent_step_frames_refused_total": 0,
            "agent_spool_failed": int(now < self._machine.full_until),
            "host_clock_offset_seconds": -_SKEW_SECONDS if now < self._machine.skewed_until else 0.0,
            "host_clock_error_seconds": 0.004,
        }
