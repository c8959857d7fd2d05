"""Whether others than our jobs use a device, as its host told last: by its driver's list, else by memory and utilisation.

An agent in a container without the host's PID namespace is shown what others run by a number that its /proc does not hold,
without a number, or not at all: then what the device itself reads tells. Called by the launch, the form and the judge.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from fleet import units
from telemetry.store.latest import LatestDevice, Processes
from telemetry.wire import NO_PID, DeviceProcess

BUSY_FROM = 0.10  # utilisation of an accelerator; at rest it is 0
_KNOWN_MS = 60_000  # so old may the list and the readings be, by their host's own clock
_LEAST_BYTES, _LEAST_SHARE = 2**30, 0.02  # of memory; below both it is what drivers before 510 keep for themselves
_OUR_COMMAND = "training/reference/start.py"
_SHOWN = 3


class UsedDevice(Protocol):
    """What is asked of a device: a row of the inventory, or the model."""

    @property
    def uuid(self) -> str: ...
    @property
    def is_accelerator(self) -> bool: ...


class Use(NamedTuple):
    """Who or what speaks for it that a device is in use; `words` is "" where nothing does.

    `unnamed_ms` is the time, by the host's clock, of what names nobody: until shortly after a job of ours it may be that
    job's own trace. None where somebody is named.
    """

    words: str
    unnamed_ms: int | None = None


def use(told: Processes | None, device: UsedDevice, state: LatestDevice | None = None) -> Use:
    """Return who uses a device, `told` of its host's processes; where nobody is listed, what its readings `state` say."""
    if told is None or not device.is_accelerator:
        return Use("")
    newest_ms, processes = told
    found = processes.get(device.uuid)
    if found is not None and abs(newest_ms - found["at_ms"]) > _KNOWN_MS:
        found = None
    listed = [DeviceProcess(**each) for each in found["processes"]] if found else []
    others = [each for each in listed if not is_ours(each)]
    if found and others:
        is_named = any(not each.is_hidden for each in others)
        return Use(f"in use by {_several(others)}", None if is_named else found["at_ms"])
    if listed or state is None or state.read_ms is None or abs(newest_ms - state.read_ms) > _KNOWN_MS:
        return Use("")
    words = _read(state.values)
    why = "although no process is listed" if found else "and its processes are not told"
    return Use(f"{words}, {why}: perhaps of a container or another PID namespace" if words else "", state.read_ms)


def is_ours(process: DeviceProcess) -> bool:
    return _OUR_COMMAND in process.command


def who(process: DeviceProcess) -> str:
    """Return what is known of whose a process is."""
    if process.pid == NO_PID:
        return "a process of another PID namespace"
    if process.is_hidden:
        return f"process {process.pid}, which the agent's /proc does not hold (another PID namespace, or it has ended)"
    where = process.container or (f"Slurm job {process.slurm_job}" if process.slurm_job else "")
    owner = f"{process.user or 'unknown user'}{f', {where}' if where else ''}"
    return f"{process.command or 'process'} {process.pid} ({owner})"


def _several(others: Sequence[DeviceProcess]) -> str:
    more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
    return f"{', '.join(_with_memory(each) for each in others[:_SHOWN])}{more}"


def _with_memory(process: DeviceProcess) -> str:
    """Of what has no name, the memory is all that tells it from others."""
    if not process.is_hidden or process.memory_bytes is None:
        return who(process)
    return f"{who(process)} with {units.quantity(process.memory_bytes, 'bytes')}"


def _read(values: dict[str, float]) -> str:
    busy, used = values.get("gpu_utilization_ratio"), values.get("memory_used_bytes")
    total = values.get("memory_total_bytes", 0.0)
    found = []
    if busy is not None and busy >= BUSY_FROM:
        found.append(f"{units.quantity(busy, 'ratio')} busy")
    if used is not None and used > max(_LEAST_BYTES, _LEAST_SHARE * total):
        found.append(f"{units.quantity(used, 'bytes')} of its memory in use")
    return " with ".join(found)
