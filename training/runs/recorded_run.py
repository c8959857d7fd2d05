"""Storing recorded steps as a run: those that it has are passed over. Called by the import (recorded_steps.py)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b

import numpy as np
from django.db import transaction

from fleet.models import Host, Origin
from telemetry.importers.rows import FileUnusable
from training.models import Run, RunRank
from training.steps import columns as step_columns
from training.steps import histogram
from training.steps.columns import StepColumns, StepKind
from training.steps.store import read, write

UNNUMBERED = -1


@dataclass(slots=True)
class Step:
    """A row of the files; `number` is UNNUMBERED where it has none."""

    rank: int
    attempt: int
    number: int
    kind: StepKind
    is_warmup: bool
    ended_ms: int
    seconds: float
    compute_seconds: float | None
    samples: float | None
    tokens: float | None
    loss: float | None
    phases: dict[str, float]


@transaction.atomic
def keep(steps: Sequence[Step], run_name: str, host_names: Sequence[str]) -> tuple[Run, int]:
    """Store the steps as one run of imported hosts; return it, and how many of them are new. Raises FileUnusable.

    All steps are the first host's. Each other host is told by a rank without steps, after those that have some.
    """
    host, *others = map(_imported, host_names)
    host_name = host_names[0]
    launch = f"recorded-{blake2b(f'{host_name}/{run_name}'.encode(), digest_size=12).hexdigest()}"
    first = min(step.ended_ms - step.seconds * 1000 for step in steps)
    defaults = {"host": host, "started_at": datetime.fromtimestamp(first / 1000, UTC)}
    run, _ = Run.objects.get_or_create(name=run_name, launch=launch, defaults=defaults)
    new = _columns(_unknown(run, steps))
    write.add(run, new)
    if len(new):
        _describe(run, host, read.steps(run))
    _add_hosts(run, others)
    return run, len(new)


def _imported(name: str) -> Host:
    host, _ = Host.objects.get_or_create(name=name, defaults={"origin": Origin.IMPORTED})
    if host.origin != Origin.IMPORTED:
        raise FileUnusable(f"host {name} is {host.origin}: recorded steps may not mix with it; choose another --host")
    return host


def _add_hosts(run: Run, hosts: Sequence[Host]) -> None:
    there = set(run.ranks.values_list("host", flat=True))
    first = run.ranks.earliest("rank")
    following = run.ranks.latest("rank").rank + 1
    new = [host for host in hosts if host.pk not in there]
    RunRank.objects.bulk_create(
        RunRank(run=run, rank=following + place, host=host, first_ms=first.first_ms, last_ms=first.last_ms)
        for place, host in enumerate(new)
    )


def _unknown(run: Run, steps: Sequence[Step]) -> list[Step]:
    """Return the steps that the run has not, and numbers for those without, counting on from what an earlier file brought.

    A step is known again by its rank, attempt, kind and number; one without a number by its rank, attempt, kind and time.
    """
    there = read.steps(run, columns=("kind", "number", "attempt"))
    ranks, attempts, kinds = there.rank.tolist(), there.attempt.tolist(), there.kind.tolist()
    numbered = set(zip(ranks, attempts, kinds, there.number.tolist(), strict=True))
    timed = set(zip(ranks, attempts, kinds, there.ended_ms.tolist(), strict=True))
    following: dict[int, int] = {}
    for rank, number in zip(ranks, there.number.tolist(), strict=True):
        following[rank] = max(number + 1, following.get(rank, 0))
    found = []
    for step in steps:
        if step.number == UNNUMBERED:
            if (step.rank, step.attempt, step.kind, step.ended_ms) in timed:
                continue
            step.number = following.get(step.rank, 0)
            following[step.rank] = step.number + 1
        known_by = step.rank, step.attempt, step.kind, step.number
        if known_by not in numbered:
            numbered.add(known_by)
            found.append(step)
    return found


def _columns(steps: Sequence[Step]) -> StepColumns:
    names = (
        "rank",
        "attempt",
        "number",
        "kind",
        "is_warmup",
        "ended_ms",
        "seconds",
        "compute_seconds",
        "samples",
        "tokens",
        "loss",
    )
    columns = {name: np.array([getattr(step, name) for step in steps], step_columns.DTYPES[name]) for name in names}
    told = dict.fromkeys(name for step in steps for name in step.phases)
    phases = {name: np.array([step.phases.get(name, np.nan) for step in steps], np.float64) for name in told}
    return step_columns.of_arrays(columns, phases)


def _describe(run: Run, host: Host, steps: StepColumns) -> None:
    """Note what the run and each of its ranks come to; a run that was recorded is over."""
    last = datetime.fromtimestamp(steps.ended_ms[-1] / 1000, UTC)
    first = datetime.fromtimestamp(steps.began_ms.min() / 1000, UTC)
    Run.objects.filter(pk=run.pk).update(
        started_at=first, last_step_at=last, ends_at=last, restarts=int(steps.attempt.max())
    )
    for rank in np.unique(steps.rank).tolist():
        own = steps.of_rank(rank)
        trained = own.select((own.kind == StepKind.TRAIN) & ~own.is_warmup)
        fields = {
            "host": host,
            "first_ms": int(own.began_ms.min()),
            "last_ms": int(own.ended_ms[-1]),
            "n_steps": len(trained),
            "seconds": float(trained.seconds.sum()),
            "samples": step_columns.told_sum(trained.samples),
            "tokens": step_columns.told_sum(trained.tokens),
            "histogram": histogram.counts(trained.seconds),
        }
        RunRank.objects.update_or_create(run=run, rank=rank, process="", defaults=fields)
