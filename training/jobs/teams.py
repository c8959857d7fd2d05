"""The ranks of a distributed job as one: how they are sent, meet, and end together. Called by launch, ingest and watch.

Orders of all ranks but 0 wait until rank 0's agent has said where it listens. A rank that ends badly ends all; rank 0's job then
says which it was and why. Every change is a conditional update, so that several workers may look at the same time. What is sent
to hosts goes out once the caller's transaction is committed.
"""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime
from functools import partial

from django.db import transaction
from django.db.models import Q

from fleet.turns import Turns
from training.jobs import orders
from training.jobs.admission import JOIN_WITHIN
from training.message import rank_order
from training.message.wire import JobReport
from training.models import ACTIVE_STATES, FINAL_STATES, JobState, ReferenceJob, Team
from training.reference.order import LEFT

_REMOVED = "a host of it was removed"


def gather(jobs: Sequence[ReferenceJob]) -> Team:
    """Make unsaved jobs the ranks of one distributed job, in the order given."""
    uuids = sorted(job.device.uuid for job in jobs if job.device)
    team = Team.objects.create(
        world_size=len(jobs),
        n_hosts=len({job.host_id for job in jobs}),
        members=hashlib.sha256("\n".join(uuids).encode()).hexdigest(),
        token=secrets.token_hex(16),
    )
    for rank, job in enumerate(jobs):
        job.team, job.rank = team, rank
    return team


def ranks(job: ReferenceJob) -> list[ReferenceJob]:
    """Return all ranks of the job's team, by rank; the job itself where it runs alone."""
    if job.team_id is None:
        return [job]
    return list(ReferenceJob.objects.filter(team=job.team_id).select_related("host", "device", "team").order_by("rank"))


def lacks_ranks(ranks: Sequence[ReferenceJob]) -> bool:
    """Tell whether a removed host took ranks of the whole job with it, for which the first of `ranks` stands."""
    team = ranks[0].team
    return team is not None and ranks[0].rank == 0 and len(ranks) < team.world_size


def gone(ranks: Sequence[ReferenceJob]) -> str:
    """Return which of their devices are known no more, so that no sum is that of the whole job; "" where all are."""
    if lacks_ranks(ranks):
        return _REMOVED
    return "the device of a rank is gone" if any(rank.device is None for rank in ranks) else ""


def heard(report: JobReport, now: datetime) -> None:
    """Take notice of a report that was applied."""
    if not (report.meeting or report.state in FINAL_STATES):
        return
    job = ReferenceJob.objects.select_related("team").filter(pk=report.job).exclude(team=None).first()
    if job is None or job.team is None:
        return
    if report.meeting and job.rank == 0:
        _meet(job.team, *rank_order.place(report.meeting), now)
    if report.state in FINAL_STATES:
        step(job.team, now)


def note_cancel(team: Team, by: str) -> None:
    """Note that a person wants the end of all ranks, which `step` then ends: at once, or with the next look."""
    Team.objects.filter(pk=team.pk, cancelled_by="", failure="").update(cancelled_by=by)
    team.refresh_from_db()


def follow(now: datetime) -> None:
    """Look after each distributed job that has not ended, or of which a rank that was given up speaks again."""
    active = ReferenceJob.objects.filter(state__in=ACTIVE_STATES).exclude(team=None).values_list("team", flat=True)
    turns = Turns[int]("following team")
    for team in Team.objects.filter(Q(is_settled=False) | Q(pk__in=set(active))):
        with turns.of(team.pk):
            step(team, now)
    turns.end()


def step(team: Team, now: datetime) -> None:
    """End the ranks where one ended badly or a person wants it, and say on rank 0 why. Idempotent."""
    jobs = _rows(team)
    is_done = any(job.rank == 0 and job.state == JobState.DONE for job in jobs)
    ended_badly = [job for job in jobs if job.is_final and job.state != JobState.DONE]
    if (ended_badly or team.cancelled_by or len(jobs) < team.world_size) and not is_done:
        _note_failure(team, jobs)
        for job in jobs:
            if not job.is_final:
                _end(job, now, _why(team))
            elif job.state == JobState.FAILED and job.report_sequence < 0:
                _send_cancel(job, now)  # its host may still come upon the order
        jobs = _rows(team)
        _say_why(team)
    if all(job.is_final for job in jobs):
        Team.objects.filter(pk=team.pk, is_settled=False).update(is_settled=True)


def _rows(team: Team) -> list[ReferenceJob]:
    return list(team.jobs.select_related("host", "device").defer("log").order_by("rank"))


def _meet(team: Team, address: str, port: int, now: datetime) -> None:
    """Send the other ranks to where rank 0 listens; once."""
    new = Team.objects.filter(pk=team.pk, address="", failure="", cancelled_by="")
    if not new.update(address=address, port=port):
        return
    others = ReferenceJob.objects.filter(team=team, rank__gt=0, state=JobState.QUEUED)
    others.update(sent_at=now, expires_at=now + JOIN_WITHIN)
    transaction.on_commit(partial(orders.send_starts, list(others.select_related("host", "device", "team"))))


def _end(job: ReferenceJob, now: datetime, reason: str) -> None:
    """Have the host end a rank; one that no host has taken has ended at once."""
    row = ReferenceJob.objects.filter(pk=job.pk)
    if row.filter(state__in=ACTIVE_STATES, cancel_requested_at=None).update(cancel_requested_at=now, sent_at=now):
        row.filter(state=JobState.QUEUED).update(state=JobState.CANCELLED, reason=reason, ended_at=now)
        _send_cancel(job, now)


def _send_cancel(job: ReferenceJob, now: datetime) -> None:
    transaction.on_commit(partial(orders.send_cancel, job, now))


def _why(team: Team) -> str:
    """Return the reason of a rank that no host has taken."""
    if team.failure:
        return f"ended with the job: {team.failure}"
    return f"cancelled by {team.cancelled_by} before its host took it"


def _note_failure(team: Team, jobs: Sequence[ReferenceJob]) -> None:
    """Note which rank ended the job: one that has a reason of its own rather than one that only lost the others."""
    if team.cancelled_by or (team.failure and LEFT not in team.failure):
        return
    ended = [job for job in jobs if job.state in {JobState.FAILED, JobState.LOST} and job.reason != team.failure]
    causes = sorted(ended, key=lambda job: (LEFT in job.reason, job.ended_at is None, job.ended_at or job.created_at))
    found = f"{causes[0].place}: {causes[0].reason}" if causes else ""
    if not found and not team.failure:
        found = _REMOVED if len(jobs) < team.world_size else "a rank was cancelled"
    if found and (not team.failure or LEFT not in found):
        Team.objects.filter(pk=team.pk, failure=team.failure).update(failure=found)
        team.refresh_from_db()  # another worker may have found another


def _say_why(team: Team) -> None:
    """Have the jobs that have ended say what ended them all; one that is lost may still say otherwise itself."""
    if team.failure:
        state, reason = JobState.FAILED, team.failure
    elif team.cancelled_by:
        state, reason = JobState.CANCELLED, f"cancelled by {team.cancelled_by}"
    else:
        return
    ended = team.jobs.filter(state__in=[JobState.FAILED, JobState.CANCELLED])
    ended.filter(rank=0).exclude(state=state, reason=reason).update(state=state, reason=reason)
    if team.failure:
        words = f"ended with the job: {reason}"
        ended.filter(rank__gt=0, state=JobState.CANCELLED).exclude(reason=words).update(reason=words)
    else:
        ended.filter(rank__gt=0).exclude(state=state, reason=reason).update(state=state, reason=reason)
