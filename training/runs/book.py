"""Which run and which of its processes steps belong to, and what they come to there. Called by the ingest of steps.

Whatever order, split and mixture of hosts they come in, the same is kept; that each comes once is the caller's to see to.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from django.db import transaction
from django.db.models import F, Max, Q, QuerySet
from django.db.models.functions import Greatest, Least

from fleet.models import ACCELERATORS, Device, Host
from telemetry.message.wire import LATEST_MS
from training.models import Run, RunRank
from training.steps import columns, histogram
from training.steps.columns import StepColumns, StepKind
from training.steps.store import write
from training.steps.teller import RunKey, Teller

SILENT_SECONDS = 300.0  # a run that told nothing for so long is over …
SILENT_STEPS = 4.0  # … unless its steps take longer: then for so many of the longest
_SUMS = (
    "first_ms", "last_ms", "newest_sequence", "n_frames", "n_dropped", "n_steps", "seconds", "samples", "tokens",
    "histogram",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Told:
    """Steps of one process in order of time, at least one, whatever their rank and attempt say.

    `newest_sequence` is the newest frame's number, `n_dropped` how many the client had dropped by then.
    """

    host: Host
    teller: Teller
    steps: StepColumns
    newest_sequence: int = -1
    n_dropped: int = 0


@transaction.atomic
def enter(told: Sequence[Told]) -> dict[RunKey, Run]:
    """Store the steps, and return their runs."""
    runs = _runs(told)
    ranks = _ranks(told, runs)
    parts: dict[RunKey, list[StepColumns]] = {}
    for each in told:
        rank = ranks[runs[each.teller.key].pk, each.teller.rank, each.teller.process]
        _add(rank, each)
        ranks_of, attempts = (np.full(len(each.steps), of, np.int32) for of in (rank.rank, rank.attempt))
        parts.setdefault(each.teller.key, []).append(replace(each.steps, rank=ranks_of, attempt=attempts))
    RunRank.objects.bulk_create(
        ranks.values(), update_conflicts=True, unique_fields=["run", "rank", "process"], update_fields=_SUMS
    )
    for key, steps in sorted(parts.items(), key=lambda each: runs[each[0]].pk):
        run, joined = runs[key], columns.joined(steps)
        write.add(run, joined)
        _note(run, joined, max(rank.attempt for rank in ranks.values() if rank.run_id == run.pk))
    return runs


def _runs(told: Sequence[Told]) -> dict[RunKey, Run]:
    tellers = {each.teller.key: each for each in told}
    found = Run.objects.filter(
        name__in={name for name, _, _ in tellers}, launch__in={launch for _, launch, _ in tellers}
    )
    runs = {key: run for run in found if (key := (run.name, run.launch, run.user)) in tellers}
    for key, each in tellers.items():
        if key not in runs:
            runs[key] = _new_run(each)
    return runs


def _new_run(told: Told) -> Run:
    teller = told.teller
    defaults = {
        "host": told.host,
        "owner": teller.owner or teller.user,
        "group": teller.group,
        "world_size": teller.world_size,
        "description": dict(teller.description),
        "started_at": _moment(told.steps.began_ms.min()),
    }
    return Run.objects.get_or_create(name=teller.run, launch=teller.launch, user=teller.user, defaults=defaults)[0]


def _ranks(told: Sequence[Told], runs: Mapping[RunKey, Run]) -> dict[tuple[int, int, str], RunRank]:
    """Return the rows of these processes by (run id, rank, process); new ones are not stored yet."""
    tellers = {(runs[each.teller.key].pk, each.teller.rank, each.teller.process): each for each in told}
    ranks = _known(tellers)
    new = {key: each for key, each in tellers.items() if key not in ranks}
    if new:
        # Of two hosts with processes of one run, the second waits: attempts are counted on. All runs are locked, in one
        # order, as all of them are written at the end.
        run_ids = {run_id for run_id, _, _ in tellers}
        list(Run.objects.select_for_update().filter(pk__in=run_ids).order_by("pk").values_list("pk"))
        ranks |= _known(new)
        following = _attempts(new)
        for key in sorted(set(new) - set(ranks), key=lambda key: new[key].steps.ended_ms[0]):
            attempt = following.get(key[:2], 0)
            following[key[:2]] = attempt + 1
            ranks[key] = _new_rank(key, new[key], attempt)
    return ranks


def _known(keys: Iterable[tuple[int, int, str]]) -> dict[tuple[int, int, str], RunRank]:
    """Return the rows, locked: their sums are read, added to, and written."""
    wanted = set(keys)
    rows = RunRank.objects.filter(run__in={key[0] for key in wanted}, process__in={key[2] for key in wanted})
    rows = rows.select_for_update().order_by("pk")
    return {key: row for row in rows if (key := (row.run_id, row.rank, row.process)) in wanted}


def _attempts(keys: Iterable[tuple[int, int, str]]) -> dict[tuple[int, int], int]:
    rows = RunRank.objects.filter(run__in={run for run, _, _ in keys}, rank__in={rank for _, rank, _ in keys})
    newest = rows.order_by().values_list("run", "rank").annotate(newest=Max("attempt"))
    return {(run, rank): attempt + 1 for run, rank, attempt in newest}


def _new_rank(key: tuple[int, int, str], told: Told, attempt: int) -> RunRank:
    teller = told.teller
    devices = devices_of(told.host, teller.devices)
    return RunRank(
        run_id=key[0], rank=key[1], process=key[2], attempt=attempt, host=told.host, pid=teller.pid,
        restart=teller.restart, device=devices[0] if devices else None, device_uuids=[each.uuid for each in devices],
        first_ms=LATEST_MS, last_ms=0,
    )  # fmt: skip


def devices_of(host: Host, names: Sequence[str]) -> list[Device]:
    """Return the host's devices of these names: UUIDs, unambiguous beginnings of such, or indices of its accelerators."""
    if not names:
        return []
    there = list(host.devices.all())
    found = []
    for name in names:
        if name.isdecimal():
            fit = [each for each in there if each.kind in ACCELERATORS and not each.profile and each.index == int(name)]
        else:
            fit = [each for each in there if each.uuid == name] or [e for e in there if e.uuid.startswith(name)]
        found += fit if len(fit) == 1 else []
    return found


def _add(rank: RunRank, told: Told) -> None:
    """Add what these steps come to."""
    steps = told.steps
    counted = steps.select((steps.kind == StepKind.TRAIN) & ~steps.is_warmup)
    rank.first_ms = min(rank.first_ms, int(steps.began_ms.min()))
    rank.last_ms = max(rank.last_ms, int(steps.ended_ms[-1]))
    rank.newest_sequence = max(rank.newest_sequence, told.newest_sequence)
    rank.n_frames += len(steps)
    rank.n_dropped = max(rank.n_dropped, told.n_dropped)
    rank.n_steps += len(counted)
    rank.seconds += float(counted.seconds.sum())
    rank.samples = _sum(rank.samples, columns.told_sum(counted.samples))
    rank.tokens = _sum(rank.tokens, columns.told_sum(counted.tokens))
    rank.histogram = histogram.summed(rank.histogram, histogram.counts(counted.seconds))


def _sum(one: float | None, other: float | None) -> float | None:
    return one if other is None else other if one is None else one + other


def _note(run: Run, steps: StepColumns, attempt: int) -> None:
    """Note when the run began, was heard last and will be over; by a condition, as other hosts' steps may be newer."""
    first, last = _moment(steps.began_ms.min()), _moment(steps.ended_ms[-1])
    silent_seconds = max(SILENT_SECONDS, SILENT_STEPS * float(steps.seconds.max()))
    ends = _moment(steps.ended_ms[-1] + silent_seconds * 1000)
    row: QuerySet[Run] = Run.objects.filter(pk=run.pk)
    row.filter(Q(last_step_at=None) | Q(ends_at=None)).update(last_step_at=last, ends_at=ends)
    is_news = Q(last_step_at__lt=last) | Q(ends_at__lt=ends) | Q(started_at__gt=first) | Q(restarts__lt=attempt)
    row.filter(is_news).update(
        last_step_at=Greatest(F("last_step_at"), last),
        ends_at=Greatest(F("ends_at"), ends),
        started_at=Least(F("started_at"), first),
        restarts=Greatest(F("restarts"), attempt),
    )


def _moment(milliseconds: float) -> datetime:
    return datetime.fromtimestamp(min(float(milliseconds), LATEST_MS) / 1000, UTC)
