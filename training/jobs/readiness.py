"""What speaks against starting a job on a device now: somebody else's processes on it, too little memory free. Reads only.

A launch refuses for these unless it is forced with a reason; a device of which nothing is known is not refused.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from telemetry.store import latest
from telemetry.store.latest import LatestDevice, Processes
from training.models import JobState, ReferenceJob

_KNOWN_MS = 60_000  # so old may the list of a device's processes be, by its host's own clock
_OUR_COMMAND = "training/reference/start.py"
_SHOWN = 3
_RUNS = 1000  # the newest, among which one of each model is looked for


class ReadyHost(Protocol):
    """What is asked of a host: a row of the inventory, or the model."""

    @property
    def pk(self) -> int: ...
    @property
    def name(self) -> str: ...


class ReadyDevice(Protocol):
    """What is asked of a device: a row of the inventory, or the model."""

    @property
    def uuid(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def is_accelerator(self) -> bool: ...


class Hindrance(NamedTuple):
    host: str
    device: str
    words: str

    def __str__(self) -> str:
        return f"{self.host} {self.device}: {self.words}"


def hindrances(
    targets: Sequence[tuple[ReadyHost, ReadyDevice]], workload: str, params: Mapping[str, Any],
    processes: Mapping[int, Processes] | None = None,
) -> list[Hindrance]:  # fmt: skip
    """Return what speaks against `workload` on each target, in a number of queries that does not grow with them.

    `processes` are those of the targets' hosts where they were read already. Readings, which are long, are read only where it
    is known what memory the workload takes.
    """
    hosts = {host.pk for host, _ in targets}
    if processes is None:
        processes = latest.processes_of(hosts)
    peaks = _peaks({device.model for _, device in targets}, workload, params)
    states = latest.of_ids(hosts) if peaks else {}
    found = []
    for host, device in targets:
        used = in_use_by(processes.get(host.pk), device)
        state, peak = states.get(host.pk), peaks.get(device.model)
        short = "" if state is None or peak is None else _memory(state.devices.get(device.uuid), peak)
        found += [Hindrance(host.name, device.title, each) for each in (used, short) if each]
    return found


def in_use_by(told: Processes | None, device: ReadyDevice) -> str:
    """Say by whom a device is used, "" where nothing is known of anybody."""
    others = _others(told, device)
    if not others:
        return ""
    names = [
        f"{each.get('command') or 'process'} {each['pid']} ({each.get('user') or 'unknown user'})"
        for each in others[:_SHOWN]
    ]
    more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
    return f"in use by {', '.join(names)}{more}"


def is_in_use(told: Processes | None, device: ReadyDevice) -> bool:
    return bool(_others(told, device))


def _others(told: Processes | None, device: ReadyDevice) -> list[Mapping[str, Any]]:
    """Return the processes on a device that are none of ours, as far as they are known."""
    at_ms, processes = told or (0, {})
    found = processes.get(device.uuid)
    if found is None or not device.is_accelerator or abs(at_ms - found["at_ms"]) > _KNOWN_MS:
        return []
    return [each for each in found["processes"] if _OUR_COMMAND not in (each.get("command") or "")]


def _memory(state: LatestDevice | None, peak_bytes: float) -> str:
    if state is None:
        return ""
    total, used = state.values.get("memory_total_bytes"), state.values.get("memory_used_bytes")
    if total is None or used is None or total - used >= peak_bytes:
        return ""
    free, needed = ((each / 2**30) for each in (total - used, peak_bytes))
    return f"{free:.1f} GiB of memory are free, an earlier run took {needed:.1f} GiB"


def _peaks(models: set[str], workload: str, params: Mapping[str, Any]) -> dict[str, float]:
    """Return the memory that the newest run of that kind took, by device model; what never ran is not known."""
    rows = ReferenceJob.objects.filter(
        workload=workload, params=dict(params), state=JobState.DONE, device__model__in=models
    )
    found: dict[str, float] = {}
    for model, result in rows.order_by("-ended_at").values_list("device__model", "result")[:_RUNS]:
        if isinstance(peak := result.get("peak_memory_bytes"), int | float):
            found.setdefault(model, float(peak))
    return found
