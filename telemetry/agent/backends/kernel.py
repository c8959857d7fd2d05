"""What the host's own backends read from the kernel: load, memory, pressure, and files with one number.

Files that are read each tick stay open: opening one costs several times what reading it does. No Django, no torch.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from telemetry.agent.backends.identity import machine_id
from telemetry.agent.backends.protocol import BackendUnavailable, Reading
from telemetry.catalog import AbsentReason

_READ_BYTES = 16_384


class KernelFile:
    """A file of proc or sysfs that is read again and again. Raises OSError where it cannot be opened or read."""

    def __init__(self, path: Path) -> None:
        self._path, self._descriptor = path, -1

    def read(self) -> bytes:
        """Return the file's first 16 KiB as they are now."""
        if self._descriptor < 0:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(self._descriptor, _READ_BYTES, 0)
        except OSError:
            self.close()  # a file of a device that left: the next read looks for a new one
            raise

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def __del__(self) -> None:
        self.close()


class Memory(NamedTuple):
    """Bytes of the machine's memory. `available` is what a new program could have without swapping."""

    total: int
    available: int


class CpuTimes(NamedTuple):
    """Seconds that all cores together spent, by kind. Source: proc_stat(5)."""

    user: float
    nice: float
    system: float
    idle: float
    iowait: float
    irq: float
    softirq: float
    steal: float
    guest: float
    guest_nice: float


_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def read_memory(meminfo: KernelFile) -> Memory:
    """Return the machine's memory. Raises OSError, and ValueError where the kernel writes no such lines."""
    text = meminfo.read()
    return Memory(_kilobytes(text, b"MemTotal:"), _kilobytes(text, b"MemAvailable:"))


def _kilobytes(text: bytes, name: bytes) -> int:
    _, found, rest = text.partition(name)
    if not found:
        raise ValueError(f"no line {name.decode()}")
    return int(rest[:40].split(maxsplit=1)[0]) * 1024


def read_cpu_times(stat: KernelFile) -> CpuTimes:
    """Return what all cores spent since boot. Raises OSError, and ValueError where the first line is another."""
    name, *ticks = stat.read().split(b"\n", 1)[0].split()
    if name != b"cpu" or len(ticks) < len(CpuTimes._fields):
        raise ValueError("no line cpu")
    return CpuTimes(*(int(count) / _TICKS_PER_SECOND for count in ticks[: len(CpuTimes._fields)]))


def this_machine(directory: Path) -> str:
    """Return the machine's id, which `directory` keeps where the system has none. Raises BackendUnavailable."""
    try:
        return machine_id(directory)
    except OSError as error:
        raise BackendUnavailable(f"no machine id, and none can be kept in {directory}: {error}") from error


def boot_seconds() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def why_unreadable(error: OSError | ValueError) -> AbsentReason:
    """Return the reason that a kernel's file gave no number."""
    if isinstance(error, PermissionError):
        return AbsentReason.NO_PERMISSION
    return AbsentReason.NOT_SUPPORTED if isinstance(error, FileNotFoundError) else AbsentReason.UNKNOWN


def read_number(path: Path) -> int:
    return int(path.read_text())


def pressure(file: KernelFile) -> Reading:
    """Return the share of the last 10 s in which some task waited, 0 to 1, from a file of /proc/pressure.

    Source: Documentation/accounting/psi.rst, `some avg10=`, in percent. Absent where the kernel keeps no such account.
    """
    try:
        text = file.read()
    except PermissionError as error:
        return why_unreadable(error)
    except OSError:
        return AbsentReason.NOT_SUPPORTED  # EOPNOTSUPP: built in, but not switched on (psi=1)
    _, found, rest = text.partition(b"some avg10=")
    try:
        share = float(rest.split(maxsplit=1)[0]) / 100 if found else -1.0
    except (ValueError, IndexError):
        return AbsentReason.UNKNOWN
    return share if 0 <= share <= 1 else AbsentReason.UNKNOWN


class Load:
    """Busy share since the last read, from the kernel's ticks."""

    def __init__(self, cpu_times: Callable[[], Any]) -> None:
        self._cpu_times = cpu_times

    def start(self) -> None:
        """Begin to measure; raises nothing: what cannot be read now may be read later."""
        try:
            self._last: Any = self._cpu_times()
        except (OSError, ValueError):
            self._last = None

    def read(self) -> Reading:
        try:
            now = self._cpu_times()
        except (OSError, ValueError) as error:
            return why_unreadable(error)
        if self._last is None:
            self._last = now
            return AbsentReason.UNKNOWN
        # proc(5): iowait may go backwards, which is no time that passed.
        spent = {name: max(0.0, getattr(now, name) - getattr(self._last, name)) for name in now._fields}
        idle: float = spent.pop("idle") + spent.pop("iowait", 0.0)
        # Guests' time stands in user and nice as well.
        busy: float = sum(seconds for name, seconds in spent.items() if not name.startswith("guest"))
        if busy + idle == 0:
            return AbsentReason.UNKNOWN  # read again within one tick of the kernel
        self._last = now
        return busy / (busy + idle)
