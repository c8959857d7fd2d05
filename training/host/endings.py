"""Why a job's process or its host ended, as far as the kernel tells: out of memory, a signal, another boot. No Django."""

import signal
from pathlib import Path

_KERNEL_COUNTS = Path("/proc/vmstat")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def oom_kills(counts: Path = _KERNEL_COUNTS) -> int | None:
    """Return how often the kernel's out-of-memory killer has acted since boot, for a cgroup's limit too; None: not told."""
    try:
        lines = counts.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)


def killed_by(number: int, kills_before: int | None, kills_now: int | None) -> str:
    """Return the reason of a process that a signal ended; the counts are of `oom_kills` at its start and after its end."""
    known = {member.value: member.name for member in signal.Signals}
    text = f"the job's process was killed by signal {number} ({known.get(number, 'unknown')})"
    if number != signal.SIGKILL:
        return text
    if kills_before is None or kills_now is None:
        return f"{text}, often the kernel's out-of-memory killer"
    if kills_now > kills_before:
        at_work = "while the kernel's out-of-memory killer was at work"
        return f"out of memory: {text} {at_work}; a smaller batch_size needs less"
    return f"{text}, and not by the kernel's out-of-memory killer"


def boot_id() -> str:
    """Return what names this run of the machine, "" where the kernel does not tell."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""
