"""Load and memory of the machine, which its processors (cpu.py) and the host as a whole (node.py) tell alike: read once for both.

Both ask at the same ticks: the first of them has the kernel's files read, and the other is given the same. No Django, no torch.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from telemetry.agent.backends.kernel import KernelFile, Load, Memory, read_cpu_times, read_memory, why_unreadable
from telemetry.agent.backends.pace import KEPT_SECONDS, next_due
from telemetry.agent.backends.protocol import Reading
from telemetry.catalog import AbsentReason


class Seen(NamedTuple):
    """`load` is the busy share since the look before; `due` is when it is worth while to look again."""

    load: Reading
    memory: Memory | AbsentReason
    due: float


class Machine:
    """`proc` is where the kernel's files are read; `cpu_times` takes the place of its file `stat`."""

    def __init__(self, proc: Path = Path("/proc"), cpu_times: Callable[[], Any] | None = None) -> None:
        self._meminfo, stat = KernelFile(proc / "meminfo"), KernelFile(proc / "stat")
        self._load = Load(cpu_times or (lambda: read_cpu_times(stat)))
        self._seen: Seen | None = None

    def start(self) -> None:
        """Begin to measure the load."""
        self._load.start()
        self._seen = None

    def look(self, now: float) -> Seen:
        """Return what is seen at `now`, or was a moment before."""
        seen = self._seen
        if seen is None or now >= seen.due:
            load = self._load.read()
            # Right after the start no time has passed: the next tick knows more.
            due = now if load is AbsentReason.UNKNOWN else next_due(now, KEPT_SECONDS)
            seen = self._seen = Seen(load, self._memory(), due)
        return seen

    def _memory(self) -> Memory | AbsentReason:
        try:
            return read_memory(self._meminfo)
        except (OSError, ValueError) as error:
            return why_unreadable(error)
