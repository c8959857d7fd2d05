"""What a running process has used so far, as the kernel counts it. Linux; called by the benches."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from telemetry.bench.figure import BenchFailed

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Cost:
    """`cpu_seconds` of all its threads, ended ones too; `wakes` are the voluntary context switches of those that live."""

    cpu_seconds: float
    resident_bytes: int
    wakes: int


def cost_of(pid: int) -> Cost:
    """Return what the process has used. Raises BenchFailed where it has ended."""
    try:
        return Cost(
            cpu_seconds=time.clock_gettime(_cpu_clock(pid)),
            resident_bytes=resident_bytes(pid),
            wakes=sum(map(_voluntary_switches, Path(f"/proc/{pid}/task").iterdir())),
        )
    except OSError as error:
        raise BenchFailed(f"process {pid} ended ({error.strerror}); what it said stands above") from error


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES


def _cpu_clock(pid: int) -> int:
    """Return the clock of another process's CPU time: in nanoseconds, where /proc/<pid>/stat counts hundredths.

    Source: clock_getcpuclockid(3), linux/posix-timers_types.h (CPUCLOCK_SCHED).
    """
    return (~pid << 3) | 2


def _voluntary_switches(task: Path) -> int:
    for line in (task / "status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "voluntary_ctxt_switches":
            return int(value)
    return 0
