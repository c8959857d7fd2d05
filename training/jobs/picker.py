"""The hosts as a form offers them: each with its devices, how it stands, and what speaks against it. Called by forms.py."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Max

from fleet.models import Device, Host, Origin
from training.jobs import queries, readiness
from training.jobs.selection import Selection, devices_of
from training.models import JobState, ReferenceJob
from training.workloads.workload import Workload


@dataclass(frozen=True, slots=True)
class HostChoice:
    """One row. `devices` are those that it gets jobs on; `seconds` and `joules` are those of its last run.

    `why_not` says why it cannot be chosen, `against` what would refuse a launch without a force, `refusal` what refused it.
    """

    host: Host
    text: str
    devices: list[Device]
    mark: str
    state: str
    why_not: str
    against: str
    refusal: str
    is_chosen: bool
    seconds: float | None
    joules: float | None

    @property
    def tags(self) -> list[str]:
        labels = [f"{key}={value}" for key, value in self.host.labels.items()]
        return [self.host.cluster, *labels] if self.host.cluster else labels


def choices(
    workload: Workload,
    asked: Selection,
    chosen: set[str],
    refused: Mapping[str, str],
    now: datetime,
    *,
    waits: bool = False,
) -> list[HostChoice]:
    """Return all hosts, those that can be chosen first. Four queries, however many there are.

    Where somebody `waits` for them, those that have a job may be chosen, too.
    """
    busy = {job.host_id: job for job in queries.jobs(active=True, with_ranks=True)}
    last = _last_runs(workload)
    hosts = list(Host.objects.prefetch_related("devices"))
    used = readiness.in_use(hosts)
    rows = []
    for host in hosts:
        mark, state, why_not = _state(host, busy.get(host.pk), has_devices=bool(host.devices.all()), now=now)
        against = "" if why_not else used.get(host.pk, "")
        seconds, joules = last.get(host.pk, (None, None))
        row = HostChoice(
            host=host,
            text=_devices_text(list(host.devices.all())),
            devices=devices_of(host, asked),
            mark="warn" if against else mark,
            state="in use" if against else state,
            why_not=why_not,
            against=against,
            refusal=refused.get(host.name, ""),
            is_chosen=host.name in chosen and (waits or not why_not),
            seconds=seconds,
            joules=joules,
        )
        rows.append(row)
    return sorted(rows, key=lambda row: (not row.refusal, bool(row.why_not), row.mark == "stale", row.host.name))


def _state(host: Host, busy: ReferenceJob | None, *, has_devices: bool, now: datetime) -> tuple[str, str, str]:
    """Return (mark, word, why the host cannot be chosen)."""
    if host.origin != Origin.REAL:
        kind = host.get_origin_display()
        return "stale", kind, f"{kind} hosts cannot run anything"
    if busy is not None:
        words = f"has job {busy.pk}, {busy.workload}; wait for it or cancel it"
        return "run", f"{busy.get_state_display()} job {busy.pk}", words
    if not has_devices:
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


def _last_runs(workload: Workload) -> dict[int, tuple[float, float | None]]:
    """Return (seconds, joules of the measured steps) of the newest finished job of the workload, by host id."""
    done = ReferenceJob.objects.filter(workload=workload.name, state=JobState.DONE, team=None)
    newest = done.order_by().values("host").annotate(newest=Max("pk")).values("newest")
    return {
        job.host_id: ((job.ended_at - job.started_at).total_seconds(), job.energy.get("joules"))
        for job in done.filter(pk__in=newest).only("host", "started_at", "ended_at", "energy")
        if job.started_at is not None and job.ended_at is not None
    }
