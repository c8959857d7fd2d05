"""The machine's processors as one device: load and memory through psutil, clock, heat and energy from sysfs.

Called by the sampler. What the machine does not offer is absent with its reason. No Django, no torch.
"""

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from telemetry.agent.backends.identity import machine_id, stable_uuid
from telemetry.agent.backends.kernel import Load, boot_seconds, read_number, why_unreadable
from telemetry.agent.backends.protocol import BackendUnavailable, Reading
from telemetry.agent.backends.rapl import Energy
from telemetry.catalog import AbsentReason
from telemetry.wire import DeviceEvent, DeviceInfo, DeviceKind, Topology

# Labels of the sensor that speaks for the package, by driver; the first that exists counts.
_SENSOR_LABELS = {"coretemp": ("Package id",), "k10temp": ("Tdie", "Tctl")}


class CpuBackend:
    """One device of kind cpu, itself its only source. `directory` keeps the machine's id where the system has none.

    `proc` and `sys` are where the kernel's files are read, `clock` gives boot seconds.
    """

    name = "cpu"
    releasable = False

    def __init__(
        self,
        directory: Path,
        *,
        proc: Path = Path("/proc"),
        sys: Path = Path("/sys"),
        clock: Callable[[], float] = boot_seconds,
        cpu_times: Callable[[], Any] = psutil.cpu_times,
    ) -> None:
        self._directory = directory
        self._proc = proc
        self._sys = sys
        self._clock = clock
        self._load = Load(cpu_times)
        self._energy = Energy(sys, "package")

    def open(self) -> None:
        try:
            machine = machine_id(self._directory)
        except OSError as error:
            raise BackendUnavailable(f"no machine id, and none can be kept in {self._directory}: {error}") from error
        uuid = stable_uuid(machine, DeviceKind.CPU, "package-0")
        self.device = DeviceInfo(uuid, DeviceKind.CPU, 0, _model(self._proc / "cpuinfo"))
        self._clocks = sorted(self._sys.glob("devices/system/cpu/cpufreq/policy*/scaling_cur_freq"))
        self._sensors, self._no_sensor = _package_sensors(self._sys)
        self._load.start()
        self._energy.start(self._clock())

    def read(self) -> dict[str, Reading]:
        power, energy = self._energy.read(self._clock())
        memory = psutil.virtual_memory()
        return {
            "gpu_utilization_ratio": self._load.read(),
            "memory_total_bytes": memory.total,
            "memory_used_bytes": memory.total - memory.available,
            "memory_free_bytes": memory.available,
            "sm_clock_hertz": self._mean_clock(),
            "temperature_celsius": self._temperature(),
            "power_draw_watts": power,
            "energy_joules_total": energy,
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
        """Nothing is held: each reading opens its file anew."""

    def _mean_clock(self) -> Reading:
        try:
            if self._clocks:
                return sum(map(read_number, self._clocks)) * 1000 / len(self._clocks)  # sysfs: kHz
            return _mean_clock_of_cpuinfo(self._proc / "cpuinfo")
        except (OSError, ValueError) as error:
            return why_unreadable(error)

    def _temperature(self) -> Reading:
        if not self._sensors:
            return self._no_sensor
        try:
            return max(map(read_number, self._sensors)) / 1000  # of several packages the hottest
        except (OSError, ValueError) as error:
            return why_unreadable(error)


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


def _cpuinfo(path: Path, key: str) -> list[str]:
    lines = (line.partition(":") for line in path.read_text().splitlines())
    return [value.strip() for name, _, value in lines if name.strip() == key]


def _model(path: Path) -> str:
    try:
        named = _cpuinfo(path, "model name")
    except OSError:
        named = []
    return named[0] if named else f"{platform.machine()} processor"  # ARM's cpuinfo has no name


def _mean_clock_of_cpuinfo(path: Path) -> Reading:
    megahertz = [float(text) for text in _cpuinfo(path, "cpu MHz")]
    return sum(megahertz) * 1e6 / len(megahertz) if megahertz else AbsentReason.NOT_SUPPORTED
