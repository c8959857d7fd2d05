"""The hosts as a form offers them: each with its devices, how it stands, and what speaks against it. Called by forms.py.

A large fleet is not listed whole: what is asked for by words is looked for among all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Case, Exists, Max, OuterRef, Q, QuerySet, TextField, When
from django.db.models.functions import Cast

from fleet.models import Device, Host, Origin
from training.jobs import queries, readiness
from training.jobs.selection import Selection, devices_of
from training.models import JobState, ReferenceJob
from training.workloads.workload import Workload

LISTED = 100  # hosts besides those that are chosen


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


@dataclass(frozen=True, slots=True)
class Offer:
    """`rows` begin with those that were refused, then those that can be chosen; `n_more` fit the words and are not among them."""

    rows: list[HostChoice]
    n_hosts: int
    n_more: int


def offer(
    workload: Workload,
    asked: Selection,
    chosen: set[str],
    refused: Mapping[str, str],
    now: datetime,
    *,
    words: str = "",
    waits: bool = False,
) -> Offer:
    """Return the hosts to choose from: of more than are listed, those that fit the words. The same queries for any fleet.

    Where somebody `waits` for them, those that have a job may be chosen, too.
    """
    n_hosts, wanted = Host.objects.count(), chosen | set(refused)
    busy = {job.host_id: job for job in queries.jobs(active=True, with_ranks=True)}
    free_first = Case(When(origin=Origin.REAL, then=0), default=2) + Case(When(pk__in=list(busy), then=1), default=0)
    others = _fitting(words if n_hosts > LISTED else "").exclude(name__in=wanted)
    listed = list(others.order_by(free_first, "name").values_list("pk", flat=True)[: LISTED + 1])
    n_more = others.count() - LISTED if len(listed) > LISTED else 0
    hosts = list(Host.objects.filter(Q(name__in=wanted) | Q(pk__in=listed[:LISTED])).prefetch_related("devices"))
    rows = _rows(workload, asked, hosts, busy, chosen, refused, now, waits=waits)
    return Offer(rows, n_hosts, n_more)


def _fitting(words: str) -> QuerySet[Host]:
    """Return the hosts that have each of the words in their name, cluster, labels (`key=value`), or the model of a device."""
    found = Host.objects.alias(label_text=Cast("labels", TextField()))
    for word in words.split():
        of_model = Exists(Device.objects.filter(host=OuterRef("pk"), model__icontains=word))
        of_label = Q(label_text__icontains=word) | Q(label_text__icontains=word.replace("=", '": "'))  # as JSON has it
        found = found.filter(Q(name__icontains=word) | Q(cluster__icontains=word) | of_label | of_model)
    return found


def _rows(
    workload: Workload, asked: Selection, hosts: list[Host], busy: Mapping[int, ReferenceJob], chosen: set[str],
    refused: Mapping[str, str], now: datetime, *, waits: bool,
) -> list[HostChoice]:  # fmt: skip
    last = _last_runs(workload, hosts)
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


def _last_runs(workload: Workload, hosts: list[Host]) -> dict[int, tuple[float, float | None]]:
    """Return (seconds, joules of the measured steps) of the newest finished job of the workload, by host id."""
    done = ReferenceJob.objects.filter(workload=workload.name, state=JobState.DONE, team=None, host__in=hosts)
    newest = done.order_by().values("host").annotate(newest=Max("pk")).values("newest")
    return {
        job.host_id: ((job.ended_at - job.started_at).total_seconds(), job.energy.get("joules"))
        for job in done.filter(pk__in=newest).only("host", "started_at", "ended_at", "energy")
        if job.started_at is not None and job.ended_at is not None
    }
