"""The host as a whole, one device of kind node: its load, memory, pressure, power at the platform, and the agent's own cost.

Called by the sampler. Power is the platform's (RAPL psys) or absent: packages alone are not the node, and a meter at the
wall (IPMI, Redfish) comes in as recorded telemetry. No Django, no torch.
"""

import platform
from collections.abc import Callable, Mapping
from pathlib import Path

from telemetry.agent.backends.identity import stable_uuid
from telemetry.agent.backends.kernel import (
    KernelFile,
    Memory,
    boot_seconds,
    pressure,
    this_machine,
)
from telemetry.agent.backends.machine import Machine
from telemetry.agent.backends.protocol import Reading
from telemetry.agent.backends.rapl import Energy
from telemetry.catalog import AbsentReason
from telemetry.message.wire import DeviceEvent, DeviceInfo, DeviceKind, Topology

_DMI = ("sys_vendor", "product_name")
_PLACEHOLDERS = {"", "To Be Filled By O.E.M.", "System manufacturer", "System Product Name", "Default string"}


class NodeBackend:
    """One device, itself its only source. `own_cost` gives the agent's own readings (`agent_…`).

    `directory` keeps the machine's id where the system has none; `proc` and `sys` are where the kernel's files are read;
    `machine` is shared with the processors.
    """

    name = "node"
    releasable = False
    is_static = True

    def __init__(
        self,
        directory: Path,
        own_cost: Callable[[], Mapping[str, Reading]],
        *,
        proc: Path = Path("/proc"),
        sys: Path = Path("/sys"),
        clock: Callable[[], float] = boot_seconds,
        machine: Machine | None = None,
    ) -> None:
        self._directory = directory
        self._own_cost = own_cost
        self._pressure = {resource: KernelFile(proc / "pressure" / resource) for resource in ("cpu", "memory", "io")}
        self._sys = sys
        self._clock = clock
        self._machine = machine or Machine(proc)
        self._energy = Energy(sys, "psys")
        self._kept: dict[str, Reading] = {}
        self._due = float("-inf")

    def open(self) -> None:
        uuid = stable_uuid(this_machine(self._directory), DeviceKind.NODE, "host")
        self.device = DeviceInfo(uuid, DeviceKind.NODE, 0, _model(self._sys / "class" / "dmi" / "id"))
        self._machine.start()
        self._due = float("-inf")
        self._energy.start(self._clock())

    def sources(self) -> list["NodeBackend"]:
        return [self]

    def read(self) -> dict[str, Reading]:
        now = self._clock()
        if now >= self._due:
            self._keep(now)
        energy = self._energy.readings(now) if self._energy.is_there else {}
        return {**self._kept, **energy, **self._own_cost()}

    def _keep(self, now: float) -> None:
        load, memory, self._due = self._machine.look(now)
        self._kept = {
            "host_cpu_utilization_ratio": load,
            **_told_memory(memory),
            **{f"host_{resource}_pressure_ratio": pressure(file) for resource, file in self._pressure.items()},
            **self._energy.absent(),
        }

    def processes(self) -> None:
        return None

    def software(self) -> dict[str, str]:
        return {"os": _distribution(), "python": platform.python_version()}

    def topology(self) -> Topology | None:
        return None

    def take_events(self) -> list[DeviceEvent]:
        return []

    def close(self) -> None:
        """Only files of the kernel are held."""


def _told_memory(memory: Memory | AbsentReason) -> dict[str, Reading]:
    if isinstance(memory, AbsentReason):
        return dict.fromkeys(("host_memory_total_bytes", "host_memory_used_bytes"), memory)
    return {"host_memory_total_bytes": memory.total, "host_memory_used_bytes": memory.total - memory.available}


def _model(dmi: Path) -> str:
    """Return vendor and product as the firmware names them, "" where it does not."""
    words = []
    for name in _DMI:
        try:
            words.append((dmi / name).read_text().strip())
        except (OSError, UnicodeDecodeError):  # no firmware tables (a container, most ARM boards)
            continue
    return " ".join(word for word in words if word not in _PLACEHOLDERS)


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()
