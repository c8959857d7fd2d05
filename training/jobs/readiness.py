"""What speaks against starting a job on a device now: somebody else's processes on it, too little memory free. Reads only.

A launch refuses for these unless it is forced with a reason; a device of which nothing is known is not refused.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from fleet.models import Device, Host
from telemetry.store import latest
from telemetry.store.latest import Latest
from training.models import JobState, ReferenceJob

_KNOWN_MS = 60_000  # so old may the list of a device's processes be, by its host's own clock
_OUR_COMMAND = "training/reference/start.py"
_SHOWN = 3


class Hindrance(NamedTuple):
    host: str
    device: str
    words: str

    def __str__(self) -> str:
        return f"{self.host} {self.device}: {self.words}"


def hindrances(targets: Sequence[tuple[Host, Device]], workload: str, params: Mapping[str, Any]) -> list[Hindrance]:
    """Return what speaks against `workload` on each target, in a number of queries that does not grow with them."""
    known = latest.of_hosts([host for host, _ in targets])
    peaks = _peaks({device.model for _, device in targets}, workload, params)
    found = []
    for host, device in targets:
        newest = known.get(host.pk)
        if newest is not None:
            used = _users(newest.processes, newest.at_ms, device)
            words = [used, _memory(newest, device, peaks.get(device.model))]
            found += [Hindrance(host.name, device.title, each) for each in words if each]
    return found


def in_use(hosts: Collection[Host]) -> dict[int, str]:
    """Return by whom devices are used, by host id, where any is: in one query, and from what is small of each host."""
    known = latest.processes_of_hosts(hosts)
    found = {}
    for host in hosts:
        at_ms, processes = known.get(host.pk, (0, {}))
        words = [
            f"{device.title}: {used}" for device in host.devices.all() if (used := _users(processes, at_ms, device))
        ]
        if words:
            found[host.pk] = "; ".join(words)
    return found


def _users(processes: Mapping[str, Mapping[str, Any]], at_ms: int, device: Device) -> str:
    told = processes.get(device.uuid)
    if told is None or not device.is_accelerator or abs(at_ms - told["at_ms"]) > _KNOWN_MS:
        return ""
    others = [each for each in told["processes"] if _OUR_COMMAND not in (each.get("command") or "")]
    if not others:
        return ""
    names = [
        f"{each.get('command') or 'process'} {each['pid']} ({each.get('user') or 'unknown user'})" for each in others
    ]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"in use by {', '.join(names[:_SHOWN])}{more}"


def _memory(newest: Latest, device: Device, peak_bytes: float | None) -> str:
    state = newest.devices.get(device.uuid)
    if peak_bytes is None or state is None:
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
    for model, result in rows.order_by("ended_at").values_list("device__model", "result")[:1000]:
        if isinstance(peak := result.get("peak_memory_bytes"), int | float):
            found[model] = float(peak)
    return found
