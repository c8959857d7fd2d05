"""What else happened on this machine while a job measured: who kept its cores busy, how often and how long it was kept off one.

Linux only: /proc/stat, getrusage and /proc/self/task/*/schedstat. Called by the harness; training/verdicts/contamination.py
judges by it. No torch.
"""

import multiprocessing
import os
import resource
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_BUSY = (0, 1, 2, 5, 6, 7)  # user, nice, system, irq, softirq, steal of proc_stat(5); idle and iowait are neither


@dataclass(frozen=True, slots=True)
class Moment:
    """Sums since boot or since the process's start: seconds of CPU of everybody on this job's cores, its own, and switches.

    Its own are those of the processes, too, that it has started by multiprocessing, such as a second rank.
    `waited_seconds` is by thread of this process: ready to run, without a core. Empty where the kernel does not count it.
    """

    busy_seconds: float | None
    own_seconds: float
    involuntary_switches: int
    waited_seconds: Mapping[str, float] = field(default_factory=dict)


def now() -> Moment:
    """Read both within microseconds of each other, outside what is timed."""
    children = _seconds_of_children()
    own, ended = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime + children
    return Moment(_busy_seconds(), spent, own.ru_nivcsw, _waited_seconds())


def between(before: Moment, after: Moment, seconds: float) -> dict[str, float | None]:
    """Return the fields of a result; a figure that cannot be told is None."""
    foreign = None
    own_seconds = after.own_seconds - before.own_seconds
    if before.busy_seconds is not None and after.busy_seconds is not None and seconds > 0:
        others = after.busy_seconds - before.busy_seconds - own_seconds
        foreign = max(0.0, others) / seconds
    return {
        "foreign_cores": foreign,
        "own_cores": own_seconds / seconds if seconds > 0 else None,
        "involuntary_context_switches": after.involuntary_switches - before.involuntary_switches,
        "longest_wait_share": _longest_wait(before, after) / seconds if after.waited_seconds and seconds > 0 else None,
    }


def _longest_wait(before: Moment, after: Moment) -> float:
    """Return the seconds of the thread that waited longest: where threads wait for each other, it decides the step's time."""
    return max(waited - before.waited_seconds.get(thread, 0.0) for thread, waited in after.waited_seconds.items())


def _waited_seconds() -> dict[str, float]:
    found = {}
    for thread in Path("/proc/self/task").glob("*"):
        with suppress(
            FileNotFoundError, ProcessLookupError
        ):  # no such count in this kernel, or the thread has just ended
            ran, waited, _ = (thread / "schedstat").read_text().split()
            if int(ran):  # a kernel without CONFIG_SCHED_INFO writes zeros
                found[thread.name] = int(waited) / 1e9
    return found


def _seconds_of_children() -> float:
    ticks = 0
    for child in multiprocessing.active_children():
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended: then it is among those that have
            stat = Path(f"/proc/{child.pid}/stat").read_text()
            ticks += sum(map(int, stat.rpartition(")")[2].split()[11:13]))  # utime and stime of proc_pid_stat(5)
    return ticks / os.sysconf("SC_CLK_TCK")


def _busy_seconds() -> float | None:
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return None
    mine = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    rows = [line.split() for line in lines]
    ticks = [sum(int(row[1 + field]) for field in _BUSY) for row in rows if row and row[0] in mine]
    return sum(ticks) / os.sysconf("SC_CLK_TCK") if ticks else None
