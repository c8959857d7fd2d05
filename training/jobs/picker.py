"""The hosts as a form offers them: each with its devices, how it stands, and what speaks against it. Called by forms.py.

A large fleet is not listed whole: what is asked for by words is looked for among all.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import NamedTuple

import orjson
from django.db.models import Case, Exists, Max, OuterRef, Q, QuerySet, TextField, When
from django.db.models.functions import Cast

from fleet.models import Device, Host, Origin
from telemetry.store import latest
from telemetry.store.latest import Processes
from training.jobs import candidates, occupancy
from training.jobs.candidates import DeviceRow, HostRow
from training.jobs.occupancy import Use
from training.jobs.selection import Selection, devices_of
from training.models import ACTIVE_STATES, JobState, ReferenceJob
from training.workloads.workload import Workload

LISTED = 100  # hosts besides those that are chosen
CHOSEN_LISTED = 50  # of those that are chosen; the others are told in numbers, and found by words
_MANY = 250  # hosts: their ids make a longer question than all results an answer


@dataclass(frozen=True, slots=True)
class HostChoice:
    """One row. `devices` are those that it gets jobs on; `seconds` and `joules` are those of its last run.

    `why_not` says why it cannot be chosen, `refusal` what refused it. `is_used` tells that others use its devices, which
    would refuse a launch without a force; `processes` are theirs.
    """

    host: HostRow
    devices: list[DeviceRow]
    mark: str
    state: str
    why_not: str
    is_used: bool
    processes: Processes | None
    refusal: str
    is_chosen: bool
    seconds: float | None
    joules: float | None

    @property
    def text(self) -> str:
        """Return what devices it has, by model."""
        counts: dict[str, int] = {}
        for device in [each for each in self.host.devices if each.is_accelerator] or self.host.devices:
            counts[device.name] = counts.get(device.name, 0) + 1
        return ", ".join(f"{n} × {name}" for name, n in counts.items())

    @property
    def against(self) -> str:
        """Return by whom its devices are used."""
        return self._of_devices(attrgetter("words")) if self.is_used else ""

    @property
    def beside(self) -> str:
        """Return who only draws on its devices, where that is all that is known of others there."""
        return "" if self.is_used or self.why_not else self._of_devices(attrgetter("beside"))

    def _of_devices(self, what: Callable[[Use], str]) -> str:
        told = ((each, what(occupancy.use(self.processes, each))) for each in self.host.devices)
        return "; ".join(f"{device.title}: {words}" for device, words in told if words)

    def fits(self, words: Sequence[str]) -> bool:
        """Tell whether it has each of the words, in lower case, in its name, cluster, labels or the models of its devices."""
        said = " ".join((self.host.name, *self.tags, *(device.model for device in self.host.devices))).lower()
        return all(word in said for word in words)

    @property
    def tags(self) -> list[str]:
        labels = [f"{key}={value}" for key, value in self.host.labels.items()]
        return [self.host.cluster, *labels] if self.host.cluster else labels


@dataclass(frozen=True, slots=True)
class Offer:
    """`rows` begin with those that were refused, then those that can be chosen; `n_more` fit the words and are not among them.

    `processes` say who uses what on the rows' hosts, by host id.
    """

    rows: list[HostChoice]
    n_hosts: int
    n_more: int
    processes: Mapping[int, Processes]


class _Job(NamedTuple):
    """A job that a host has."""

    pk: int
    workload: str
    state: str


def offer(
    workload: Workload,
    asked: Selection,
    chosen: set[str],
    refused: Mapping[str, str],
    now: datetime,
    *,
    words: str = "",
    waits: bool = False,
    known: Sequence[HostRow] = (),
) -> Offer:
    """Return the hosts to choose from: of more than are listed, those that fit the words. The same queries for any fleet.

    Where somebody `waits` for them, those that have a job may be chosen, too. `known` are hosts among the chosen that were
    read already.
    """
    n_hosts, read = Host.objects.count(), [host.pk for host in known]
    wanted = (chosen | set(refused)) - {host.name for host in known}
    busy = _busy()
    free_first = Case(When(origin=Origin.REAL, then=0), default=2) + Case(When(pk__in=list(busy), then=1), default=0)
    others = _fitting(words if n_hosts > LISTED else "").exclude(name__in=wanted).exclude(pk__in=read)
    listed = list(others.order_by(free_first, "name").values_list("pk", flat=True)[: LISTED + 1])
    n_more = others.count() - LISTED if len(listed) > LISTED else 0
    hosts = [*known, *candidates.read(Q(name__in=wanted) | Q(pk__in=listed[:LISTED]))]
    processes = latest.processes_of({host.pk for host in hosts})
    rows = _rows(workload, asked, hosts, busy, processes, chosen, refused, now, waits=waits)
    return Offer(rows, n_hosts, n_more, processes)


def _busy() -> dict[int, _Job]:
    """Return the oldest job that each host has, by host id."""
    active = ReferenceJob.objects.filter(state__in=ACTIVE_STATES).order_by("-created_at", "-pk")
    return {host_id: _Job(*job) for host_id, *job in active.values_list("host_id", *_Job._fields)}


def _fitting(words: str) -> QuerySet[Host]:
    """Return the hosts that have each of the words in their name, cluster, labels (`key=value`), or the model of a device."""
    found = Host.objects.alias(label_text=Cast("labels", TextField()))
    for word in words.split():
        of_model = Exists(Device.objects.filter(host=OuterRef("pk"), model__icontains=word))
        of_label = Q(label_text__icontains=word) | Q(label_text__icontains=word.replace("=", '": "'))  # as JSON has it
        found = found.filter(Q(name__icontains=word) | Q(cluster__icontains=word) | of_label | of_model)
    return found


def _rows(
    workload: Workload, asked: Selection, hosts: Sequence[HostRow], busy: Mapping[int, _Job],
    processes: Mapping[int, Processes], chosen: set[str], refused: Mapping[str, str], now: datetime, *, waits: bool,
) -> list[HostChoice]:  # fmt: skip
    last = _last_runs(workload, {host.pk for host in hosts})
    rows = []
    for host in hosts:
        mark, state, why_not = _state(host, busy.get(host.pk), now=now)
        told = processes.get(host.pk)
        is_used = not why_not and any(occupancy.use(told, device).words for device in host.devices)
        seconds, joules = last.get(host.pk, (None, None))
        row = HostChoice(
            host=host,
            devices=devices_of(host, asked),
            mark="warn" if is_used else mark,
            state="in use" if is_used else state,
            why_not=why_not,
            is_used=is_used,
            processes=told,
            refusal=refused.get(host.name, ""),
            is_chosen=host.name in chosen and (waits or not why_not),
            seconds=seconds,
            joules=joules,
        )
        rows.append(row)
    return sorted(rows, key=lambda row: (not row.refusal, bool(row.why_not), row.mark == "stale", row.host.name))


def _state(host: HostRow, busy: _Job | None, *, now: datetime) -> tuple[str, str, str]:
    """Return (mark, word, why the host cannot be chosen)."""
    if host.origin == Origin.IMPORTED:
        return "stale", "recorded", "imported hosts cannot run anything"
    if busy is not None:
        words = f"has job {busy.pk}, {busy.workload}; wait for it or cancel it"
        return "run", f"{JobState(busy.state).label} job {busy.pk}", words
    if not host.devices:
        return "stale", "no device", "has not reported any device yet"
    if host.is_silent(now):
        return "stale", "silent, would wait", ""
    return "idle", "idle", ""


def _last_runs(workload: Workload, hosts: Collection[int]) -> dict[int, tuple[float, float | None]]:
    """Return (seconds, joules of the measured steps) of the newest finished job of the workload, by host id."""
    done = ReferenceJob.objects.filter(workload=workload.name, state=JobState.DONE, team=None)
    done = done.filter(host__in=hosts) if len(hosts) <= _MANY else done
    newest = done.order_by().values("host").annotate(newest=Max("pk")).values("newest")
    rows = ReferenceJob.objects.filter(pk__in=newest, started_at__isnull=False, ended_at__isnull=False).order_by()
    found = rows.values_list("host_id", "started_at", "ended_at", Cast("energy", TextField()))
    return {
        host_id: ((ended - started).total_seconds(), orjson.loads(energy).get("joules"))
        for host_id, started, ended, energy in found
    }
