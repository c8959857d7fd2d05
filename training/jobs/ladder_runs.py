"""Running ladders: started by people, then driven by beat, one fresh process after the other on the same device.

Every step is idempotent: a process is a row with its job, written in the transaction that queues the job.
"""

import re
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from fleet.access import audit
from fleet.access.audit import Actor
from fleet.models import Origin
from fleet.turns import Turns
from training.jobs import askers, launch
from training.jobs.launch import LaunchRefused
from training.ladder import rungs as ladder
from training.ladder.climb import Climbed, Process, climb
from training.ladder.rungs import NoLadder, Rung
from training.ladder.speedup import BLOCKS, MOST_BLOCKS
from training.models import JobState, LadderProcess, LadderRun, LadderState, ReferenceJob
from training.verdicts import contamination
from training.workloads.catalog import validate
from training.workloads.params import ParamsInvalid

PATIENCE = timedelta(hours=24)  # so long a ladder waits for its host to be there and idle, from its last process on
_PRECISION = re.compile(r"precision: (\w+) is not offered")
_NOT_OFFERED = "not offered"
_CHOSEN = frozenset({"precision", "compile", "layout", "kernels"})  # what the rungs themselves set


@transaction.atomic
def start(
    workload: str, host: str, params: Mapping[str, Any], *, actor: Actor, now: datetime, n_blocks: int = BLOCKS,
    device_uuid: str = "",
) -> LadderRun:  # fmt: skip
    """Begin a ladder; its first process follows within seconds. Raises LaunchRefused."""
    try:
        chosen, complete = validate(workload, params)
        rungs = ladder.rungs(chosen)
    except ParamsInvalid as error:
        raise LaunchRefused(error.field, str(error)) from error
    except NoLadder as error:
        raise LaunchRefused("workload", str(error)) from error
    if not 1 <= n_blocks <= MOST_BLOCKS:
        raise LaunchRefused("blocks", f"{n_blocks} is not between 1 and {MOST_BLOCKS}")
    (target,) = launch.targets([(host, device_uuid)])
    if target.host.origin == Origin.SIMULATED:
        raise LaunchRefused("hosts", f"{host} is simulated: its trainings take the same with any optimisation")
    if LadderRun.objects.filter(host=target.host, state=LadderState.RUNNING).exists():
        raise LaunchRefused("hosts", f"{host} has a ladder already; wait or cancel it first", is_busy=True)
    run = LadderRun.objects.create(
        workload=chosen.name,
        host=target.host,
        device=target.device,
        params={name: value for name, value in complete.items() if name not in _CHOSEN},
        rungs=[{"name": rung.name, "params": dict(rung.params)} for rung in rungs],
        order=ladder.blocks(len(rungs), n_blocks, secrets.randbelow(2**31)),
        requested_by=actor.name,
        created_at=now,
    )
    detail = {"ladder": run.pk, "workload": run.workload, "blocks": n_blocks}
    audit.record(actor.name, "reference.ladder", target.host.name, detail, actor.address)
    return run


def cancel(run: LadderRun, *, actor: Actor, now: datetime) -> bool:
    """End a ladder and the process that runs; False where it has ended already."""
    with transaction.atomic():
        reason = f"cancelled by {actor.name}"
        if not LadderRun.objects.filter(pk=run.pk, state=LadderState.RUNNING).update(
            state=LadderState.CANCELLED, reason=reason, ended_at=now
        ):
            return False
        audit.record(actor.name, "reference.ladder_cancel", run.host.name, {"ladder": run.pk}, actor.address)
    for process in run.processes.select_related("job__host", "job__device"):
        if not process.job.is_final:
            launch.cancel(process.job, actor=actor, now=now)
    return True


def follow(now: datetime) -> None:
    """Take each running ladder one process further."""
    turns = Turns[int]("following ladder")
    for run in LadderRun.objects.filter(state=LadderState.RUNNING).select_related("host", "device").order_by("pk"):
        with turns.of(run.pk):
            _step(run, now)
    turns.end()


def processes(run: LadderRun) -> list[Process]:
    """Return what the ended processes measured."""
    rows = run.processes.select_related("job__device", "job__verdict")
    return [_process(row) for row in rows if row.job.is_final]


def n_processes(run: LadderRun) -> int:
    """Return how many processes the ladder has in all, as far as is known: a rung that is not offered has one, which said so."""
    return len(run.order) * (len(run.rungs) - len(run.not_offered)) + len(run.not_offered)


def result(run: LadderRun) -> list[Climbed]:
    """Return the result of each rung, as far as it is known."""
    not_offered = {int(rung): why for rung, why in run.not_offered.items()}
    return climb([rung["name"] for rung in run.rungs], not_offered, processes(run), len(run.order))


def _step(run: LadderRun, now: datetime) -> None:
    rows = list(run.processes.select_related("job"))
    if any(not row.job.is_final for row in rows):
        return
    if rows and rows[-1].job.state == JobState.CANCELLED:
        _end(run, LadderState.CANCELLED, f"job {rows[-1].job_id} was cancelled", now)
        return
    for row in rows:
        if row.job.state == JobState.FAILED and _NOT_OFFERED in row.job.reason and _learn(run, row):
            return  # the next turn sees the ladder as it is now
    done = {(row.block, row.rung) for row in rows}
    place = next(
        (
            (block, rung)
            for block, order in enumerate(run.order)
            for rung in order
            if (block, rung) not in done and str(rung) not in run.not_offered
        ),
        None,
    )
    if place is None:
        _conclude(run, now)
    elif run.device is None:
        _end(run, LadderState.FAILED, "its device is no longer known", now)
    elif now - (rows[-1].job.ended_at or now if rows else run.created_at) > PATIENCE:
        _end(run, LadderState.FAILED, f"{run.host.name} was not there and idle for {PATIENCE.days} day", now)
    elif run.host.is_silent(now):
        _note_wait(run, f"waits: {run.host.name} is silent")
    else:
        _launch(run, *place, now)


def _launch(run: LadderRun, block: int, rung: int, now: datetime) -> None:
    if run.device is None:
        return
    actor = askers.of_ladder(run)
    params = {**run.params, **run.rungs[rung]["params"]}
    try:
        with transaction.atomic():
            if not LadderRun.objects.select_for_update().filter(pk=run.pk, state=LadderState.RUNNING).exists():
                return  # a person cancelled it meanwhile, who knows nothing of this process
            wanted = [(run.host.name, run.device.uuid)]
            (job,) = launch.prepare(run.workload, wanted, params, actor=actor, now=now)
            LadderProcess.objects.create(ladder=run, block=block, rung=rung, job=job)
    except LaunchRefused as refusal:
        if refusal.is_busy:
            _note_wait(run, f"waits: {refusal.why}")
        else:
            _end(run, LadderState.FAILED, str(refusal), now)
        return
    _note_wait(run, "")
    launch.send([job])


def _note_wait(run: LadderRun, reason: str) -> None:
    """Say why its next process does not start, "" where it does."""
    if run.reason != reason:
        LadderRun.objects.filter(pk=run.pk, state=LadderState.RUNNING).update(reason=reason)


def _learn(run: LadderRun, row: LadderProcess) -> bool:
    """Take note of what the device lacks, from a process that said so; False where it is known already.

    A precision that is lacking ends its own rung; those above are climbed without it.
    """
    if str(row.rung) in run.not_offered:
        return False
    found = _PRECISION.search(row.job.reason)
    own = run.rungs[row.rung]
    if found is None or own["name"].casefold() == found[1]:
        run.not_offered[str(row.rung)] = row.job.reason
    else:
        rungs = ladder.without_precision([Rung(**rung) for rung in run.rungs], found[1])
        run.rungs = [{"name": rung.name, "params": dict(rung.params)} for rung in rungs]
        row.delete()  # the process said nothing of its rung: its place is free again
    run.save(update_fields=["not_offered", "rungs"])
    return True


def _conclude(run: LadderRun, now: datetime) -> None:
    first = [process for process in processes(run) if process.rung == 0]
    if any(process.is_usable for process in first):
        _end(run, LadderState.DONE, "", now)
        return
    why = next((each.failure or "; ".join(each.markers) for each in first), "") or run.not_offered.get("0", "")
    _end(run, LadderState.FAILED, f"no process of the first rung has a result that counts: {why}", now)


def _end(run: LadderRun, state: LadderState, reason: str, now: datetime) -> None:
    LadderRun.objects.filter(pk=run.pk, state=LadderState.RUNNING).update(state=state, reason=reason, ended_at=now)


def _process(row: LadderProcess) -> Process:
    job = row.job
    if job.state != JobState.DONE:
        return Process(row.block, row.rung, job.pk, failure=job.reason or job.get_state_display())
    step_seconds = _time(job, "step_seconds_median")
    return Process(
        row.block,
        row.rung,
        job.pk,
        step_seconds=step_seconds,
        first_step_seconds=_time(job, "first_step_seconds"),
        steps=job.total_steps,
        loss_start=_number(job, "loss_start"),
        loss_end=_number(job, "loss_end"),
        markers=_markers(job),
        failure="" if step_seconds is not None else "its result tells of no step",
    )


def _markers(job: ReferenceJob) -> list[str]:
    """Return the verdict's marks, which know who else used the device; before it is judged those of the result alone."""
    if hasattr(job, "verdict"):
        return list(job.verdict.markers)
    is_on_accelerator = job.device is not None and job.device.is_accelerator
    return contamination.markers(contamination.of_result(job.result, is_on_accelerator=is_on_accelerator))


def _number(job: ReferenceJob, name: str) -> float | None:
    value = job.result.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _time(job: ReferenceJob, name: str) -> float | None:
    """Return a duration; one that cannot be is unknown."""
    seconds = _number(job, name)
    return seconds if seconds is not None and seconds > 0 else None
