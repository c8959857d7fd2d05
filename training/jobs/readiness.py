"""What speaks against starting a job on a device now: that others use it, too little memory free. Reads only.

A launch refuses for these unless it is forced with a reason; a device of which nothing is known is not refused.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from django.db.models import Max

from telemetry.store import latest
from telemetry.store.latest import Latest, LatestDevice, Processes
from training.jobs import occupancy
from training.models import JobState, ReferenceJob

_SETTLED_MS = 3_000  # after a job's end its memory and its last samples are gone
_MOST_READ = 100  # hosts of a form whose readings, which are long, are read; the launch itself looks at all
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

    `processes` are those of the targets' hosts where they were read already, as for a form: of very many hosts it is told by
    processes alone who uses them, unless it is known what memory the workload takes.
    """
    hosts = {host.pk for host, _ in targets}
    peaks = _peaks({device.model for _, device in targets}, workload, params)
    states = latest.of_ids(hosts) if peaks or processes is None or len(hosts) <= _MOST_READ else {}
    if processes is None:
        processes = {pk: (state.at_ms, state.processes) for pk, state in states.items()}
    found = []
    for (host, device), used in zip(targets, _in_use(targets, processes, states), strict=True):
        state, peak = states.get(host.pk), peaks.get(device.model)
        short = "" if state is None or peak is None else _memory(state.devices.get(device.uuid), peak)
        found += [Hindrance(host.name, device.title, each) for each in (used, short) if each]
    return found


def _in_use(
    targets: Sequence[tuple[ReadyHost, ReadyDevice]], processes: Mapping[int, Processes], states: Mapping[int, Latest]
) -> list[str]:
    """Return by whom each target is used, "" where nothing is known of anybody.

    What names nobody is not held against a device that a job of ours had until then.
    """
    uses = []
    for host, device in targets:
        state = states.get(host.pk)
        uses.append(occupancy.use(processes.get(host.pk), device, state.devices.get(device.uuid) if state else None))
    unnamed = {device.uuid for (_, device), use in zip(targets, uses, strict=True) if use.words and use.unnamed_ms}
    ended = _last_ends(unnamed) if unnamed else {}
    return [
        "" if use.unnamed_ms is not None and use.unnamed_ms < ended.get(device.uuid, 0) + _SETTLED_MS else use.words
        for (_, device), use in zip(targets, uses, strict=True)
    ]


def _last_ends(uuids: Collection[str]) -> dict[str, int]:
    """Return when the last job on each device ended, by its host's clock in ms; a device without one is left out."""
    ended = ReferenceJob.objects.filter(device__uuid__in=uuids, ended_at__isnull=False).order_by()
    newest = ended.values("device__uuid").annotate(newest=Max("ended_at")).values_list("device__uuid", "newest")
    return {uuid: int(at.timestamp() * 1000) for uuid, at in newest}


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
