"""Whether others than our jobs use a device, as its host told last: by its driver's list, else by memory and utilisation.

An agent in a container without the host's PID namespace is shown what others run by a number that its /proc does not hold,
without a number, or not at all: then what the device itself reads tells. A display server that has little memory and is at rest
is named, and nothing more. Called by the launch, the form and the judge.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from fleet import units
from telemetry.message.wire import NO_PID, DeviceProcess
from telemetry.store.latest import LatestDevice, Processes

BUSY_FROM = 0.10  # utilisation of an accelerator; at rest it is 0
_KNOWN_MS = 60_000  # so old may the list and the readings be, by their host's own clock
_LEAST_BYTES, _LEAST_SHARE = 2**30, 0.02  # of memory; below both it is what drivers before 510 keep for themselves
_OUR_COMMAND = "training/reference/start.py"
_SHOWN = 3
_NOBODY = "although no process is listed"
_MOST_DRAWN_BYTES = 2**30  # of those together that only draw: a display server and its desktop take a few hundred MB


class UsedDevice(Protocol):
    """What is asked of a device: a row of the inventory, or the model."""

    @property
    def uuid(self) -> str: ...
    @property
    def is_accelerator(self) -> bool: ...


class Use(NamedTuple):
    """Who or what speaks for it that a device is in use; `words` is "" where nothing does.

    `unnamed_ms` is the time, by the host's clock, of what names nobody: until shortly after a job of ours it may be that
    job's own trace. None where somebody is named. `beside` names who only draws there, which is no use.
    """

    words: str
    unnamed_ms: int | None = None
    beside: str = ""


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
    drawing = displays(others)
    beside = _several(drawing)
    if found and len(others) > len(drawing):
        is_named = any(not each.is_hidden for each in others)
        more = f"; besides, {beside}" if beside else ""
        using = [each for each in others if each not in drawing]
        return Use(f"in use by {_several(using)}{more}", None if is_named else found["at_ms"], beside)
    is_ours_there = len(listed) > len(others)
    if is_ours_there or state is None or state.read_ms is None or abs(newest_ms - state.read_ms) > _KNOWN_MS:
        return Use("", beside=beside)
    words = _read(state.values, sum(each.memory_bytes or 0 for each in drawing))
    why = (
        "and its processes are not told"
        if not found
        else f"although all that is listed is {beside}"
        if beside
        else _NOBODY
    )
    words = f"{words}, {why}: perhaps of a container or another PID namespace" if words else ""
    return Use(words, state.read_ms, beside)


def displays(others: Sequence[DeviceProcess]) -> list[DeviceProcess]:
    """Return those that only draw where together they take little memory and are at rest, none where they do not.

    One whose memory the driver does not tell may have any.
    """
    drawing = [each for each in others if each.only_draws]
    used = [each.memory_bytes for each in drawing]
    known = [each for each in used if each is not None]
    busy = sum(each.sm_ratio or 0.0 for each in drawing)
    return drawing if len(known) == len(used) and sum(known) <= _MOST_DRAWN_BYTES and busy < BUSY_FROM else []


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
    """Of what has no name, the memory is all that tells it from others; of what only draws, it tells whether it is much."""
    draws = ", which only draws," if process.only_draws else ""
    if not (process.is_hidden or draws) or process.memory_bytes is None:
        return f"{who(process)}{draws}"
    share = f" and {process.sm_ratio:.0%} of the SMs" if draws and process.sm_ratio else ""
    return f"{who(process)}{draws} with {units.quantity(process.memory_bytes, 'bytes')}{share}"


def _read(values: dict[str, float], drawn_bytes: int) -> str:
    """Return in words how the device is in use, by what it reads beyond what is drawn there."""
    busy, used = values.get("gpu_utilization_ratio"), values.get("memory_used_bytes")
    total = values.get("memory_total_bytes", 0.0)
    found = []
    if busy is not None and busy >= BUSY_FROM:
        found.append(f"{units.quantity(busy, 'ratio')} busy")
    if used is not None and used - drawn_bytes > max(_LEAST_BYTES, _LEAST_SHARE * total):
        found.append(f"{units.quantity(used, 'bytes')} of its memory in use")
    return " with ".join(found)
