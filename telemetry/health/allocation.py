"""Whether a device is given to somebody, and who says so. Called by the rules and the accounting of idle energy. Pure.

The order, first answer wins:
1. the agent's reading `allocation`, which has asked Kubernetes, Slurm and the device's processes; where it is absent,
2. the device's processes: one in a Slurm job, one in a container, any. That there is none says nothing here: the agent knows
   whether it sees all of them, and then tells it by its reading;
3. the host's label `allocated`, set by hand: `yes`, `no`, or by device index, such as `0:yes,1:no`.
Else it is unknown, which is neither allocated nor free.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from telemetry.health.seen import DeviceSeen

LABEL = "allocated"
METRIC = "allocation"
_FREE, _PROCESS, _SLURM_JOB, _POD = range(4)  # the metric's values, as the catalogue tells them


class Allocated(StrEnum):
    ALLOCATED = "allocated"
    FREE = "free"
    UNKNOWN = "unknown"


class Allocation(NamedTuple):
    """`source` says who tells: "Kubernetes", "Slurm job 4411", "container 3f1c…", "processes", "label"; "" where nobody does."""

    state: Allocated
    source: str = ""


_BY_HAND = {"yes": Allocated.ALLOCATED, "no": Allocated.FREE}
_SOURCES = {_PROCESS: "processes", _SLURM_JOB: "Slurm", _POD: "Kubernetes"}


def of_device(device: DeviceSeen) -> Allocation:
    """Return who has the device, by the first in the order above that tells."""
    code = device.values.get(METRIC)
    if code is not None:
        return _of_code(int(code), device.processes or ())
    if device.processes:
        return _of_processes(device.processes)
    return by_hand(device.host.host.labels, device.index)


def by_hand(labels: Mapping[str, Any], index: int | None) -> Allocation:
    """Return what the host's labels say of a device; unknown where they do not name it, or are not understood."""
    text = str(labels.get(LABEL, ""))
    pairs = dict(part.strip().partition(":")[::2] for part in text.split(","))
    state = _BY_HAND.get(text) or _BY_HAND.get(pairs.get(str(index), ""))
    return Allocation(state, "label") if state else Allocation(Allocated.UNKNOWN)


def of_code(code: int | None) -> Allocated:
    """Return what a value of the metric says; None is an absent one."""
    if code is None or code not in {_FREE, *_SOURCES}:
        return Allocated.UNKNOWN
    return Allocated.FREE if code == _FREE else Allocated.ALLOCATED


def _of_code(code: int, processes: Sequence[Mapping[str, Any]]) -> Allocation:
    state = of_code(code)
    if state is not Allocated.ALLOCATED:
        return Allocation(state, "the agent" if state is Allocated.FREE else "")
    job = _first(processes, "slurm_job") if code == _SLURM_JOB else ""
    return Allocation(state, f"Slurm job {job}" if job else _SOURCES[code])


def _of_processes(processes: Sequence[Mapping[str, Any]]) -> Allocation:
    for key, words in (("slurm_job", "Slurm job"), ("container", "container")):
        if name := _first(processes, key):
            return Allocation(Allocated.ALLOCATED, f"{words} {name}")
    return Allocation(Allocated.ALLOCATED, "processes")


def _first(processes: Sequence[Mapping[str, Any]], key: str) -> str:
    return next((str(process[key])[:12] for process in processes if process.get(key)), "")
