"""From what hosts tell of their training loops to runs and stored steps. No HTTP, no Celery.

A message of the release before (`ingest_message`) may come again: steps that are there are passed over.
"""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np
from django.db import transaction
from django.db.models import Q, QuerySet

from fleet.models import Host
from telemetry.message.wire import MessageInvalid
from training.message import wire
from training.message.wire import StepTiming
from training.models import ReferenceJob, Run
from training.runs import book, job_runs
from training.runs.book import Told
from training.steps import blocks, columns
from training.steps.columns import StepColumns, StepKind
from training.steps.store import read
from training.steps.teller import RunKey, Teller

logger = logging.getLogger(__name__)

_REFERENCE_LAUNCH = re.compile(re.escape(wire.REFERENCE_PREFIX) + r"(\d{1,18})-([A-Za-z0-9]{1,32})")


def take(batches: Sequence[tuple[Host, Sequence[bytes]]], now: datetime) -> None:
    """Store the steps that came with batches, in the transaction that accepts these: so each comes once.

    What cannot be read, or may not be stored, is logged and left out.
    """
    told: list[Told] = []
    refused: list[str] = []
    for host, pieces in batches:
        for piece in pieces:
            try:
                block = blocks.read(piece)
            except MessageInvalid as error:
                refused.append(f"a block of {host.name}: {error}")
            else:
                told.append(Told(host, block.teller, block.steps, block.newest_sequence, block.n_dropped))
    _enter(told, refused, now)
    if refused:
        logger.warning("%d steps or blocks of them were left out: %s", len(refused), refused[0])


def ingest_message(host: Host, body: bytes, now: datetime) -> int:
    """Store the steps of a message that `host` sent; returns how many. Those that cannot be used are logged.

    Raises MessageInvalid.
    """
    host_name, timings, refused = wire.unpack_steps(body)
    if host_name != host.name:
        raise MessageInvalid(f"host: {host.name} sent a message that names {host_name}")
    told = []
    for (run, launch, rank), steps in _by_rank(timings).items():
        devices = tuple(filter(None, [steps[0].device_uuid]))
        told.append(Told(host, Teller(run, launch, rank, devices=devices), _columns(steps)))
    with transaction.atomic():
        n_stored = _enter([_unknown(each) for each in told], refused, now)
    if refused:
        logger.warning("%d step timings from %s were left out: %s", len(refused), host_name, refused[0])
    return n_stored


def _enter(told: Iterable[Told], refused: list[str], now: datetime) -> int:
    """Store what may be stored, and join reference jobs with their runs; returns the number of steps."""
    allowed: list[Told] = []
    jobs: dict[RunKey, QuerySet[ReferenceJob]] = {}
    for given in told:
        each = given
        try:
            if each.teller.launch.startswith(wire.REFERENCE_PREFIX):
                job = _reference_job(each.host, each.teller)
                each = _of_one_user(each) if job.team_id is not None else each
                jobs[each.teller.key] = ReferenceJob.objects.filter(pk=job.pk)
        except MessageInvalid as error:
            refused += [str(error)] * len(each.steps)
        else:
            allowed += [each] if len(each.steps) else []
    runs = book.enter(allowed) if allowed else {}
    for key, found in jobs.items():
        if key in runs:
            found.filter(run=None).update(run=runs[key])
    if jobs:  # the last steps of a job come after its end
        job_runs.end(Q(pk__in=[run.pk for run in runs.values()]), now)
    return sum(len(each.steps) for each in allowed)


def _reference_job(host: Host, teller: Teller) -> ReferenceJob:
    """Return the job, which is its host's alone; of a distributed one its host must have that rank. Raises MessageInvalid."""
    found = _REFERENCE_LAUNCH.fullmatch(teller.launch)
    if found:
        job = ReferenceJob.objects.only("pk", "host", "team").filter(pk=int(found[1]), launch=found[2]).first()
        if job is not None and _is_of(host, teller.rank, job):
            return job
    raise MessageInvalid(f"launch: {host.name} was given no reference job whose steps are {teller.launch!r}")


def _is_of(host: Host, rank: int, job: ReferenceJob) -> bool:
    if job.team_id is None:
        return job.host_id == host.pk
    return ReferenceJob.objects.filter(team=job.team_id, rank=rank, host=host).exists()


def _of_one_user(told: Told) -> Told:
    """Return the steps of a rank whose agent may run as another user than the others' do: they are of one run all the same."""
    teller = told.teller
    return replace(told, teller=replace(teller, user="", owner=teller.owner or teller.user))


def _by_rank(timings: Sequence[StepTiming]) -> Mapping[tuple[str, str, int], list[StepTiming]]:
    found: dict[tuple[str, str, int], list[StepTiming]] = {}
    for each in timings:
        found.setdefault((each.run, each.launch, each.rank), []).append(each)
    return found


def _columns(timings: Sequence[StepTiming]) -> StepColumns:
    names = ("rank", "number", "ended_ms", "seconds", "samples", "tokens", "loss", "is_warmup")
    return columns.of_arrays(
        {name: np.array([getattr(each, name) for each in timings], columns.DTYPES[name]) for name in names}
    )


def _unknown(told: Told) -> Told:
    """Return the steps that the run has not, each number once."""
    teller, steps = told.teller, told.steps
    run = Run.objects.filter(name=teller.run, launch=teller.launch, user="").first()
    _, firsts = np.unique(steps.number, return_index=True)
    new = np.zeros(len(steps), np.bool_)
    new[firsts] = True
    if run is not None:
        there = read.steps(run, ranks=[teller.rank], columns=("number", "kind")).of_kind(StepKind.TRAIN)
        new &= ~np.isin(steps.number, there.number)
    return Told(told.host, teller, steps.select(new))
