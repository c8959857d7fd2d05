"""What a running process has used so far, as the kernel counts it. Linux; called by the benches."""

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

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


def cpu_seconds_of(pid: int) -> float:
    """Return the CPU time of the process alone. Raises BenchFailed where it has ended."""
    try:
        return time.clock_gettime(_cpu_clock(pid))
    except OSError as error:
        raise BenchFailed(f"process {pid} ended ({error.strerror}); what it said stands above") from error


def tree_cpu_seconds(pid: int) -> float:
    """Return the CPU time of the process and of all below it, those that ended and were waited for included."""
    total = 0.0
    for process in _tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess, OSError):  # ended meanwhile: then its parent has its time
            ended = process.cpu_times()
            total += time.clock_gettime(_cpu_clock(process.pid)) + ended.children_user + ended.children_system
    return total


def idle_seconds() -> float:
    """Return how long the machine's cores did nothing since it began, in sum; in hundredths."""
    times = psutil.cpu_times()
    return float(times.idle + times.iowait)


def tree_resident_bytes(pid: int) -> int:
    """Return the resident memory of the process and of all below it; pages that they share count for each."""
    total = 0
    for process in _tree(pid):
        with contextlib.suppress(OSError):
            total += resident_bytes(process.pid)
    return total


def _tree(pid: int) -> list[psutil.Process]:
    try:
        top = psutil.Process(pid)
        return [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess as error:
        raise BenchFailed(f"process {pid} ended; what it said stands above") from error


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
