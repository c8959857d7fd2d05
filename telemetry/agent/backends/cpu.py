"""The machine's processors as one device: load and memory through psutil, clock, heat and energy from sysfs.

Called by the sampler. What the machine does not offer is absent with its reason. No Django, no torch.
"""

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from telemetry.agent.backends.identity import machine_id, stable_uuid
from telemetry.agent.backends.protocol import BackendUnavailable, Reading
from telemetry.catalog import AbsentReason
from telemetry.wire import DeviceEvent, DeviceInfo, DeviceKind, Topology

# Labels of the sensor that speaks for the package, by driver; the first that exists counts.
_SENSOR_LABELS = {"coretemp": ("Package id",), "k10temp": ("Tdie", "Tctl")}

# RAPL's registers wrap after 65 kJ at the least, and start again after a suspend: a longer silence hides both.
_LONGEST_GAP_SECONDS = 60.0
# The registers move once a millisecond: over a shorter time than this their difference is noise.
_SHORTEST_GAP_SECONDS = 0.02


def _boot_seconds() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _reason(error: OSError | ValueError) -> AbsentReason:
    if isinstance(error, PermissionError):
        return AbsentReason.NO_PERMISSION
    return AbsentReason.NOT_SUPPORTED if isinstance(error, FileNotFoundError) else AbsentReason.UNKNOWN


def _number(path: Path) -> int:
    return int(path.read_text())


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
        clock: Callable[[], float] = _boot_seconds,
        cpu_times: Callable[[], Any] = psutil.cpu_times,
    ) -> None:
        self._directory = directory
        self._proc = proc
        self._sys = sys
        self._clock = clock
        self._load = _Load(cpu_times)
        self._energy = _Energy(sys)

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
                return sum(map(_number, self._clocks)) * 1000 / len(self._clocks)  # sysfs: kHz
            return _mean_clock_of_cpuinfo(self._proc / "cpuinfo")
        except (OSError, ValueError) as error:
            return _reason(error)

    def _temperature(self) -> Reading:
        if not self._sensors:
            return self._no_sensor
        try:
            return max(map(_number, self._sensors)) / 1000  # of several packages the hottest
        except (OSError, ValueError) as error:
            return _reason(error)


class _Load:
    """Busy share since the last read, from the kernel's ticks."""

    def __init__(self, cpu_times: Callable[[], Any]) -> None:
        self._cpu_times = cpu_times

    def start(self) -> None:
        self._last = self._cpu_times()

    def read(self) -> Reading:
        now = self._cpu_times()
        # proc(5): iowait may go backwards, which is no time that passed.
        spent = {name: max(0.0, getattr(now, name) - getattr(self._last, name)) for name in now._fields}
        idle: float = spent.pop("idle") + spent.pop("iowait", 0.0)
        # Guests' time stands in user and nice as well.
        busy: float = sum(seconds for name, seconds in spent.items() if not name.startswith("guest"))
        if busy + idle == 0:
            return AbsentReason.UNKNOWN  # read again within one tick of the kernel
        self._last = now
        return busy / (busy + idle)


@dataclass(slots=True)
class _Domain:
    """One processor package in powercap: its register and where that wraps, in microjoules."""

    path: Path
    wrap: int
    last: int

    def advance(self, now: int) -> int:
        """Return the microjoules from the last register value to this one."""
        used = now - self.last if now >= self.last else now + self.wrap - self.last
        self.last = now
        return used


class _Energy:
    """RAPL's package domains, summed: joules since `start`, so that the agent's restart is a plain reset."""

    def __init__(self, sys: Path) -> None:
        self._sys = sys

    def start(self, now: float) -> None:
        self._joules, self._since = 0.0, now
        self._domains: list[_Domain] = []
        self._absent: AbsentReason | None = None
        try:
            self._domains = [_domain(path) for path in _package_domains(self._sys)]
        except (OSError, ValueError) as error:
            self._absent = _reason(error)

    def read(self, now: float) -> tuple[Reading, Reading]:
        """Return (watts since the last read, joules since `start`)."""
        if not self._domains:
            reason = self._absent or AbsentReason.NOT_SUPPORTED
            return reason, reason
        elapsed = now - self._since
        if elapsed < _SHORTEST_GAP_SECONDS:
            return AbsentReason.UNKNOWN, self._joules
        try:
            registers = [_number(domain.path) for domain in self._domains]
        except (OSError, ValueError) as error:
            return _reason(error), _reason(error)
        self._since = now
        used = (domain.advance(register) for domain, register in zip(self._domains, registers, strict=True))
        joules = sum(used) / 1e6
        if elapsed > _LONGEST_GAP_SECONDS:
            return AbsentReason.UNKNOWN, self._joules
        self._joules += joules
        return joules / elapsed, self._joules


def _package_domains(sys: Path) -> list[Path]:
    """Return the packages' folders: without their parts (core, dram) and the whole platform (psys)."""
    folders = sorted(sys.glob("class/powercap/intel-rapl:*"))
    return [folder for folder in folders if (folder / "name").read_text().startswith("package")]


def _domain(folder: Path) -> _Domain:
    register = folder / "energy_uj"
    return _Domain(register, wrap=_number(folder / "max_energy_range_uj"), last=_number(register))


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
        return [], _reason(error)
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
