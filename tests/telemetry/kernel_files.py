"""A folder with the kernel's files, a clock and a load that a test sets: what the backends of CPU and node read."""

from pathlib import Path
from typing import NamedTuple

RANGE_UJ = 262_143_328_850


class Times(NamedTuple):
    """As psutil.cpu_times gives them on Linux, in seconds."""

    user: float = 0.0
    nice: float = 0.0
    system: float = 0.0
    idle: float = 0.0
    iowait: float = 0.0
    irq: float = 0.0
    softirq: float = 0.0
    steal: float = 0.0
    guest: float = 0.0
    guest_nice: float = 0.0


class Machine:
    """A folder with the kernel's files, a clock and a load that a test sets."""

    def __init__(self, root: Path) -> None:
        self.root, self.seconds, self.times = root, 100.0, Times()
        self.write(
            "proc/cpuinfo", "processor : 0\nmodel name\t: Intel(R) Xeon(R) Platinum 8480+\ncpu MHz\t\t: 2000.5\n"
        )

        self.write("proc/meminfo", "MemTotal:  8388608 kB\nMemFree:  100 kB\nMemAvailable:  6291456 kB")

    def write(self, path, content):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{content}\n")
        return file

    def add_package(self, number, register_uj, name="package"):
        folder = f"sys/class/powercap/intel-rapl:{number}"
        self.write(f"{folder}/name", f"{name}-{number}")
        self.write(f"{folder}/max_energy_range_uj", RANGE_UJ)
        return self.write(f"{folder}/energy_uj", register_uj)
