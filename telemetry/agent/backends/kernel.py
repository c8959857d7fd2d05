"""What the host's own backends read from the kernel: load, pressure, and files with one number. No Django, no torch."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from telemetry.agent.backends.protocol import Reading
from telemetry.catalog import AbsentReason


def boot_seconds() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def why_unreadable(error: OSError | ValueError) -> AbsentReason:
    """Return the reason that a kernel's file gave no number."""
    if isinstance(error, PermissionError):
        return AbsentReason.NO_PERMISSION
    return AbsentReason.NOT_SUPPORTED if isinstance(error, FileNotFoundError) else AbsentReason.UNKNOWN


def read_number(path: Path) -> int:
    return int(path.read_text())


def pressure(proc: Path, resource: str) -> Reading:
    """Return the share of the last 10 s in which some task waited for "cpu", "memory" or "io", 0 to 1.

    Source: Documentation/accounting/psi.rst, `some avg10=`, in percent. Absent where the kernel keeps no such account.
    """
    try:
        for line in (proc / "pressure" / resource).read_text().splitlines():
            kind, *fields = line.split()
            if kind == "some":
                share = float(dict(field.partition("=")[::2] for field in fields)["avg10"]) / 100
                return share if 0 <= share <= 1 else AbsentReason.UNKNOWN
    except (OSError, ValueError) as error:
        # EOPNOTSUPP: built in, but not switched on (psi=1).
        is_off = isinstance(error, OSError) and not isinstance(error, PermissionError)
        return AbsentReason.NOT_SUPPORTED if is_off else why_unreadable(error)
    except KeyError:
        pass
    return AbsentReason.UNKNOWN


class Load:
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
