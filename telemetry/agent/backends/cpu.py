"""The machine's processors as one device: load and memory from proc, clock, heat and energy from sysfs.

Called by the sampler each tick; but for energy, it reads anew every few seconds. What the machine does not offer is absent
with its reason. No Django, no torch.
"""

import platform
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from telemetry.agent.backends.identity import stable_uuid
from telemetry.agent.backends.kernel import (
    KernelFile,
    Memory,
    boot_seconds,
    this_machine,
    why_unreadable,
)
from telemetry.agent.backends.machine import Machine
from telemetry.agent.backends.protocol import Reading
from telemetry.agent.backends.rapl import Energy
from telemetry.catalog import AbsentReason
from telemetry.message.wire import DeviceEvent, DeviceInfo, DeviceKind, Topology

# Labels of the sensor that speaks for the package, by driver; the first that exists counts.
_SENSOR_LABELS = {"coretemp": ("Package id",), "k10temp": ("Tdie", "Tctl")}

_CPUINFO_CLOCK = re.compile(rb"^cpu MHz[^:\n]*:([^\n]*)\n", re.MULTILINE)
_MOST_CLOCKS = 8  # of many cores these speak for all: asking each of hundreds costs more than the rest of the agent


class CpuBackend:
    """One device of kind cpu, itself its only source. `directory` keeps the machine's id where the system has none.

    `proc` and `sys` are where the kernel's files are read, `clock` gives boot seconds; `machine` is shared with the node.
    """

    name = "cpu"
    releasable = False
    is_static = True

    def __init__(
        self,
        directory: Path,
        *,
        proc: Path = Path("/proc"),
        sys: Path = Path("/sys"),
        clock: Callable[[], float] = boot_seconds,
        machine: Machine | None = None,
    ) -> None:
        self._directory = directory
        self._proc = proc
        self._cpuinfo = KernelFile(proc / "cpuinfo")
        self._sys = sys
        self._clock = clock
        self._machine = machine or Machine(proc)
        self._energy = Energy(sys, "package")
        self._kept: dict[str, Reading] = {}
        self._due = float("-inf")

    def open(self) -> None:
        uuid = stable_uuid(this_machine(self._directory), DeviceKind.CPU, "package-0")
        self.device = DeviceInfo(uuid, DeviceKind.CPU, 0, _model(self._proc / "cpuinfo"))
        clocks = sorted(self._sys.glob("devices/system/cpu/cpufreq/policy*/scaling_cur_freq"))
        self._clocks = [KernelFile(path) for path in clocks[:: max(1, -(-len(clocks) // _MOST_CLOCKS))]]
        sensors, self._no_sensor = _package_sensors(self._sys)
        self._sensors = [KernelFile(path) for path in sensors]
        self._machine.start()
        self._due = float("-inf")
        self._energy.start(self._clock())

    def read(self) -> Mapping[str, Reading]:
        now = self._clock()
        if now >= self._due:
            self._keep(now)
        if not self._energy.is_there:
            return self._kept
        return {**self._kept, **self._energy.readings(now)}

    def _keep(self, now: float) -> None:
        load, memory, self._due = self._machine.look(now)
        self._kept = {
            "gpu_utilization_ratio": load,
            **_told_memory(memory),
            "sm_clock_hertz": self._mean_clock(),
            "temperature_celsius": self._temperature(),
            **self._energy.absent(),
        }

    def sources(self) -> list["CpuBackend"]:
        return [self]

    def processes(self) -> None:
        return None

    def topology(self) -> Topology | None:
        return None

    def take_events(self) -> list[DeviceEvent]:
        return []

    def software(self) -> dict[str, str]:
        return {"kernel": platform.release()}

    def close(self) -> None:
        """Let go of the sensors, which may be others the next time."""
        for file in (*self._clocks, *self._sensors):
            file.close()

    def _mean_clock(self) -> Reading:
        try:
            if self._clocks:
                return sum(int(file.read()) for file in self._clocks) * 1000 / len(self._clocks)  # sysfs: kHz
            return _mean_clock_of_cpuinfo(self._cpuinfo.read())
        except (OSError, ValueError) as error:
            return why_unreadable(error)

    def _temperature(self) -> Reading:
        if not self._sensors:
            return self._no_sensor
        try:
            return max(int(file.read()) for file in self._sensors) / 1000  # of several packages the hottest
        except (OSError, ValueError) as error:
            return why_unreadable(error)


def _told_memory(memory: Memory | AbsentReason) -> dict[str, Reading]:
    if isinstance(memory, AbsentReason):
        return dict.fromkeys(("memory_total_bytes", "memory_used_bytes", "memory_free_bytes"), memory)
    total, available = memory
    return {
        "memory_total_bytes": total,
        "memory_used_bytes": total - available,
        "memory_free_bytes": available,
    }


def _package_sensors(sys: Path) -> tuple[list[Path], AbsentReason]:
    """Return the sensors' files, and why there is none where the list is empty."""
    sensors: list[Path] = []
    try:
        for name_file in sorted(sys.glob("class/hwmon/hwmon*/name")):
            wanted = _SENSOR_LABELS.get(name_file.read_text().strip(), ())
            labels = {path: path.read_text() for path in sorted(name_file.parent.glob("temp*_label"))}
            choices = ([path for path, label in labels.items() if label.startswith(w)] for w in wanted)
            sensors += next(filter(None, choices), [])
    except OSError as error:
        return [], why_unreadable(error)
    return [label.with_name(label.name.replace("_label", "_input")) for label in sensors], AbsentReason.NOT_SUPPORTED


def _model(path: Path) -> str:
    try:
        named = [line for line in path.read_text().splitlines() if line.startswith("model name")]
    except OSError:
        named = []
    # ARM's cpuinfo has no name.
    return named[0].partition(":")[2].strip() if named else f"{platform.machine()} processor"


def _mean_clock_of_cpuinfo(text: bytes) -> Reading:
    """Return the mean of the cores that stand in what was read of the file, whose last line may be cut."""
    megahertz = [float(value) for value in _CPUINFO_CLOCK.findall(text)]
    return sum(megahertz) * 1e6 / len(megahertz) if megahertz else AbsentReason.NOT_SUPPORTED
