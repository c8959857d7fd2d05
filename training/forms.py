"""The launch form as it stands in a query string or a POST: workload, its parameters as text, hosts, and what is wrong.

Called by the reference page. It offers and explains; what may start is decided by training/launch.py alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.db.models import Max
from django.http import QueryDict

from fleet.models import Device, Host, Origin
from training import queries
from training.launch import default_device
from training.models import JobState, ReferenceJob
from training.params import Param
from training.workload import Workload


@dataclass(frozen=True, slots=True)
class Field:
    """One parameter with the text that stands in its input."""

    param: Param
    text: str
    error: str


@dataclass(frozen=True, slots=True)
class HostChoice:
    """One row of the picker. `why_not` says why a host cannot be chosen; `seconds` is how long its last run took."""

    host: Host
    devices: str
    device: Device | None
    mark: str
    state: str
    why_not: str
    is_chosen: bool
    seconds: float | None

    @property
    def tags(self) -> list[str]:
        labels = [f"{key}={value}" for key, value in self.host.labels.items()]
        return [self.host.cluster, *labels] if self.host.cluster else labels


@dataclass(frozen=True, slots=True)
class LaunchForm:
    """`errors` by field: workload, hosts, or a parameter's name."""

    workloads: list[Workload]
    workload: Workload
    fields: list[Field]
    hosts: list[HostChoice]
    errors: Mapping[str, str] = field(default_factory=dict)

    @property
    def chosen(self) -> list[HostChoice]:
        return [choice for choice in self.hosts if choice.is_chosen]

    @property
    def unknown_duration(self) -> list[str]:
        return [choice.host.name for choice in self.chosen if choice.seconds is None]

    @property
    def seconds(self) -> float | None:
        """How long the slowest of the chosen hosts took last time; None where one has never run the workload."""
        known = [choice.seconds for choice in self.chosen if choice.seconds is not None]
        return max(known) if known and len(known) == len(self.chosen) else None


def launch_form(data: QueryDict, hosts: Sequence[str], now: datetime, errors: Mapping[str, str]) -> LaunchForm:
    """Return the form that `data` describes, with `hosts` chosen as far as they can be. Three queries and one a workload."""
    workloads = queries.workloads()
    workload = next((each for each in workloads if each.name == data.get("workload")), workloads[0])
    fields = [Field(p, data.get(p.name, str(p.default)), errors.get(p.name, "")) for p in workload.params]
    return LaunchForm(workloads, workload, fields, _choices(workload, set(hosts), now), errors)


def _choices(workload: Workload, chosen: set[str], now: datetime) -> list[HostChoice]:
    busy = {job.host_id: job for job in queries.jobs(active=True, with_ranks=True)}
    seconds = _last_seconds(workload)
    rows = [
        _choice(host, busy.get(host.pk), host.name in chosen, seconds.get(host.pk), now)
        for host in Host.objects.prefetch_related("devices")
    ]
    return sorted(rows, key=lambda row: (bool(row.why_not), row.mark == "stale", row.host.name))


def _choice(host: Host, busy: ReferenceJob | None, is_chosen: bool, seconds: float | None, now: datetime) -> HostChoice:
    devices = sorted(host.devices.all(), key=lambda device: (device.kind, device.index))
    # The device that training.launch takes where none is named.
    device = default_device(devices) if devices else None
    mark, state, why_not = _state(host, busy, device, now)
    return HostChoice(host, _devices_text(devices), device, mark, state, why_not, is_chosen and not why_not, seconds)


def _state(host: Host, busy: ReferenceJob | None, device: Device | None, now: datetime) -> tuple[str, str, str]:
    """Return (mark, word, why the host cannot be chosen)."""
    if host.origin != Origin.REAL:
        kind = host.get_origin_display()
        return "stale", kind, f"{kind} hosts cannot run anything"
    if busy is not None:
        return (
            "run",
            f"{busy.get_state_display()} job {busy.pk}",
            f"has job {busy.pk}, {busy.workload}; wait for it or cancel it",
        )
    if device is None:
        return "stale", "no device", "has not reported any device yet"
    if host.is_silent(now):
        return "stale", "silent, would wait", ""
    return "idle", "idle", ""


def _devices_text(devices: Sequence[Device]) -> str:
    counts: dict[str, int] = {}
    for device in [each for each in devices if each.is_accelerator] or devices:
        name = device.model or device.get_kind_display()
        counts[name] = counts.get(name, 0) + 1
    return ", ".join(f"{n} × {name}" for name, n in counts.items())


def _last_seconds(workload: Workload) -> dict[int, float]:
    """Return how long the newest finished job of the workload took, by host id."""
    done = ReferenceJob.objects.filter(workload=workload.name, state=JobState.DONE, team=None)
    newest = done.order_by().values("host").annotate(newest=Max("pk")).values("newest")
    return {
        job.host_id: (job.ended_at - job.started_at).total_seconds()
        for job in done.filter(pk__in=newest).only("host", "started_at", "ended_at")
        if job.started_at is not None and job.ended_at is not None
    }
