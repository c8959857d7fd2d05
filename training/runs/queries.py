"""The read side of runs: which there are, and who takes part in them. Pages and API ask here and render."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

import orjson
from django.db.models import Q, QuerySet, TextField
from django.db.models.expressions import Combinable
from django.db.models.functions import Cast

from fleet.models import Device
from training.models import Run, RunRank
from training.models.runs import TELLS
from training.utilisation import hardware

_NONE = Q(pk=None)
_OF_PROCESS: tuple[str | Combinable, ...] = (
    "run", "rank", "n_steps", "device__uuid", "device__model", Cast("device_uuids", TextField()),
)  # fmt: skip


class RunState(StrEnum):
    RUNNING = "running"
    ENDED = "ended"


def runs(
    now: datetime, *, state: RunState | None = None, host: str = "", device: str = "", owner: str = "", group: str = "",
    text: str = "", cluster: str | None = None,
) -> QuerySet[Run]:  # fmt: skip
    """Return runs, newest first; of a `cluster` those in which any of its hosts takes part.

    Each word of `text` is looked for in name, owner, group, user and hosts, or is their state.
    """
    found = Run.objects.select_related("host").order_by("-last_step_at", "-pk")
    in_state = {"running": Q(ends_at__gt=now), "ended": Q(ends_at=None) | Q(ends_at__lte=now)}
    if state is not None:
        found = found.filter(in_state[state])
    if host:
        found = found.filter(Q(host__name=host) | Q(ranks__host__name=host))
    if device:
        found = found.filter(ranks__device__uuid=device)
    if cluster is not None:
        found = found.filter(of_cluster(cluster))
    if owner:
        found = found.filter(owner=owner)
    if group:
        found = found.filter(group=group)
    for word in text.split():
        found = found.filter(
            Q(name__icontains=word) | Q(owner__icontains=word) | Q(group__icontains=word) | Q(user__icontains=word)
            | Q(host__name__icontains=word) | Q(ranks__host__name__icontains=word) | in_state.get(word.casefold(), _NONE)
        )  # fmt: skip
    return found.distinct() if host or device or text else found


def of_cluster(cluster: str) -> Q:
    """Return what finds the runs in which any of a cluster's hosts takes part, each once."""
    return Q(host__cluster=cluster) | Q(pk__in=RunRank.objects.filter(host__cluster=cluster).values("run"))


def find(run_id: int) -> Run | None:
    return Run.objects.select_related("host").filter(pk=run_id).first()


@dataclass(slots=True)
class Part:
    """Who takes part in a run, in short: how many ranks and devices, of which models, on which hosts; its global steps."""

    n_ranks: int = 0
    n_steps: int = 0
    models: dict[str, int] = field(default_factory=dict)
    hosts: dict[str, str] = field(default_factory=dict)  # name → origin

    @property
    def origins(self) -> list[str]:
        return sorted(set(self.hosts.values()))

    @property
    def devices(self) -> str:
        """Return "8 × H100 SXM5 80GB", by the catalogue's names where it knows them; "" where no device is known."""
        return ", ".join(f"{n} × {short_name(model)}" for model, n in self.models.items())


def short_name(model: str) -> str:
    """Return what the hardware catalogue calls a device model, the driver's name where it does not know it."""
    found = hardware.find(model).hardware
    return found.name if found else model


def parts(found: Sequence[Run]) -> dict[int, Part]:
    """Return who takes part in each of the runs: of each rank the devices of its newest start, each once, as members() has it.

    In two queries whatever their number, and a third where a process has several devices.
    """
    made = {run.pk: Part() for run in found}
    for run in found:
        if run.host is not None:
            made[run.pk].hosts[run.host.name] = run.host.origin
    ranks = RunRank.objects.filter(run__in=made)
    places = ranks.exclude(host=None).order_by("host__name").values_list("run", "host__name", "host__origin").distinct()
    for run_id, name, origin in places:
        made[run_id].hosts[name] = origin
    n_steps: Counter[tuple[int, int]] = Counter()
    uuids: dict[tuple[int, int], Sequence[str]] = {}
    models: dict[str, str] = {}
    for run_id, rank, n, uuid, model, told in ranks.filter(TELLS).order_by("attempt").values_list(*_OF_PROCESS):
        n_steps[run_id, rank] += n
        uuids[run_id, rank] = orjson.loads(told) if "," in told else [uuid] if uuid else []
        models[uuid] = model
    for (run_id, _), n in n_steps.items():
        made[run_id].n_ranks += 1
        made[run_id].n_steps = max(made[run_id].n_steps, n)
    for run_id, counted in _by_model(uuids, models).items():
        made[run_id].models = counted
    return made


def _by_model(uuids: Mapping[tuple[int, int], Sequence[str]], known: Mapping[str, str]) -> dict[int, dict[str, int]]:
    """Return how many devices of which model each run has, of the `uuids` by run id and rank; models are those by uuid."""
    once: dict[int, set[str]] = {}
    for (run_id, _), of_rank in uuids.items():
        once.setdefault(run_id, set()).update(of_rank)
    others = {uuid for of_run in once.values() for uuid in of_run if uuid not in known}
    models = {**known, **dict(Device.objects.filter(uuid__in=others).values_list("uuid", "model"))} if others else known
    counts = {run_id: Counter(filter(None, map(models.get, of_run))) for run_id, of_run in once.items()}
    return {run_id: dict(sorted(count.items())) for run_id, count in counts.items()}


def life_ms(run: Run, now: datetime) -> tuple[int, int]:
    """Return from when to when the run goes, UTC milliseconds: while it runs to now, else just beyond its last step."""
    began = int(run.started_at.timestamp() * 1000)
    if run.is_running(now):
        return began, max(began + 1, int(now.timestamp() * 1000))
    ended = run.last_step_at or run.started_at
    return began, int(ended.timestamp() * 1000) + 1
