"""Keeping jobs' states true when nobody speaks: orders not taken, hosts gone silent, energy still to come. Called by beat."""

from datetime import UTC, datetime, timedelta

from django.db.models import Q, QuerySet

from fleet import units
from fleet.turns import Turns
from telemetry.accounts.energy import Energy, energy_between, summed
from telemetry.message.wire import LATEST_MS
from training.jobs import holding, orders, releasing, teams
from training.models import ACTIVE_STATES, JobState, ReferenceJob
from training.runs import job_runs

RESEND_CANCEL_AFTER = timedelta(seconds=10)
RESEND_QUESTION_AFTER = timedelta(seconds=20)
LOST_AFTER = timedelta(seconds=30)
ASK_FOR = timedelta(hours=1)  # so long is a lost job's host asked how the job ended
CANCEL_SLACK = timedelta(minutes=1)  # a host may take an order at the last moment
ENERGY_PATIENCE = timedelta(seconds=60)
_UP_SINCE = datetime.now(UTC)
_WAITS_FOR_RANK_0 = Q(rank__gt=0, sent_at__isnull=False, team__address="")  # let in, and its order is still to be made


def watch(now: datetime, up_since: datetime = _UP_SINCE) -> None:
    """Look after all jobs once. `up_since` is when this server began to take in what hosts say."""
    if now - up_since >= LOST_AFTER:  # after a pause the hosts' reports still lie in the queue: nobody was silent
        _expire_queued(now)
        _declare_lost(now)
    turns = Turns[str]("the jobs' watch:")
    for part in (teams.follow, _admit, _send_orders, _send_cancels, _ask_for_ends, _end_runs, _account_energy):
        with turns.of(part.__name__.strip("_")):
            part(now)
    turns.end()


def _expire_queued(now: datetime) -> None:
    expired = ReferenceJob.objects.select_related("host").filter(state=JobState.QUEUED, expires_at__lt=now)
    for job in expired.exclude(_WAITS_FOR_RANK_0):
        reason = _why_expired(job)
        ReferenceJob.objects.filter(pk=job.pk, state=JobState.QUEUED).update(
            state=JobState.FAILED, ended_at=now, reason=reason
        )


def _why_expired(job: ReferenceJob) -> str:
    if job.sent_at is None and job.reason.startswith(holding.FOR_ITS_DEVICE):
        return f"given up: {job.reason}"
    if job.sent_at is None and not job.reason.startswith(holding.FOR_ITS_HOST):
        others = "other reference jobs did not end in time to let it start"
        return others if job.team_id is None else f"given up: {job.reason}"
    host = job.host
    seen = f"last sample {units.utc(host.last_seen_at)}" if host.last_seen_at else "it never reported"
    if host.last_seen_at and host.heard_at and host.last_seen_at - host.heard_at > orders.CLOCK_SLACK:
        seen = f"{seen}; its clock is ahead of the server's by more than {orders.CLOCK_SLACK.seconds // 60} minutes: set it"
    return f"{host.name} did not take the order before it expired at {units.utc(job.expires_at)} ({seen})"


def _admit(now: datetime) -> None:
    """Send the orders of jobs that waited for others to end, for their device, or for their host to be back."""
    orders.send_starts(releasing.admit(now))


def _send_orders(now: datetime) -> None:
    """Send orders again that a broker may have lost, where the job may still start; the host starts nothing twice."""
    for job in _sent_before(now - orders.ASKED_FOR, Q(state=JobState.QUEUED) & ~_WAITS_FOR_RANK_0):
        if not releasing.take_back(job, now) and not job.host.is_silent(now) and _note_sent(job, now):
            orders.send_start(job)


def _send_cancels(now: datetime) -> None:
    """Send cancels again, also of jobs that no host had taken: a broker may have lost the cancel and not the order."""
    running = Q(state__in=ACTIVE_STATES, cancel_requested_at__isnull=False)
    not_taken = Q(state=JobState.CANCELLED, report_sequence=-1, expires_at__gt=now - CANCEL_SLACK)
    for job in _sent_before(now - RESEND_CANCEL_AFTER, running | not_taken):
        is_in_vain = job.state == JobState.CANCELLED and job.host.is_silent(now)
        if not is_in_vain and _note_sent(job, now):
            orders.send_cancel(job, now)


def _ask_for_ends(now: datetime) -> None:
    """Ask hosts that speak again how a job ended that was given up as lost: the broker may have lost the final report."""
    for job in _sent_before(now - RESEND_QUESTION_AFTER, Q(state=JobState.LOST, ended_at__gt=now - ASK_FOR)):
        if not job.host.is_silent(now) and _note_sent(job, now):
            orders.ask_again(job, now)


def _sent_before(moment: datetime, which: Q) -> QuerySet[ReferenceJob]:
    """Return jobs that are still waited for; one whose host has told its end has no `sent_at`."""
    return ReferenceJob.objects.select_related("host", "device", "team").filter(which, sent_at__lt=moment)


def _note_sent(job: ReferenceJob, now: datetime) -> bool:
    """Note that a message goes out; False where the job has changed meanwhile."""
    unchanged = ReferenceJob.objects.filter(pk=job.pk, state=job.state, sent_at=job.sent_at)
    if not unchanged.update(sent_at=now):
        return False
    job.sent_at = now
    return True


def _declare_lost(now: datetime) -> None:
    """A job that its agent no longer speaks of is lost, until the agent says otherwise."""
    for job in ReferenceJob.objects.select_related("host").filter(
        state__in=[JobState.STARTING, JobState.RUNNING], heard_at__lt=now - LOST_AFTER
    ):
        ReferenceJob.objects.filter(pk=job.pk, state=job.state, heard_at=job.heard_at).update(
            state=JobState.LOST,
            ended_at=now,
            sent_at=now,
            reason=f"the agent on {job.host.name} has not spoken of this job since {job.heard_at:%Y-%m-%d %H:%M:%S} UTC",
        )


def _end_runs(now: datetime) -> None:
    job_runs.end(job_runs.EVERY, now)


def _account_energy(now: datetime) -> None:
    """Fill in power and joules of the measured window once its last samples have arrived."""
    turns = Turns[int]("accounting the energy of job")
    for job in ReferenceJob.objects.select_related("host", "device", "team").filter(state=JobState.DONE, energy={}):
        with turns.of(job.pk):
            energy = _energy(job, now)
            if energy is not None:
                ReferenceJob.objects.filter(pk=job.pk, energy={}).update(energy=energy)
    turns.end()


def _energy(job: ReferenceJob, now: datetime) -> dict[str, object] | None:
    """Return what the job page shows, None while it is worth waiting."""
    start_ms, end_ms = job.result.get("window_start_ms"), job.result.get("window_end_ms")
    if job.device is None or not isinstance(start_ms, int) or not isinstance(end_ms, int):
        return {"reason": "the result names no measured window or its device is gone"}
    if not 0 <= start_ms < end_ms <= min(start_ms + job.time_limit_seconds * 1000, LATEST_MS):
        return {"reason": "the result's measured window is not one that such a job can have"}
    waited = job.ended_at is None or now - job.ended_at > ENERGY_PATIENCE
    ranks = teams.ranks(job) if job.rank == 0 else [job]  # rank 0's is the whole job's, another's its own
    if gone := teams.gone(ranks):
        return {"reason": f"{gone}, and with it a part of the energy"}
    if not waited and any(_is_behind(rank.host.last_seen_at, end_ms) for rank in ranks):
        return None
    devices = {rank.device.uuid: rank.device for rank in ranks if rank.device is not None}
    found = [energy_between(device, start_ms, end_ms) for device in devices.values()]
    if not waited and any(each.joules is None and each.is_partial for each in found):
        return None
    return _shown(summed(found), job.result.get("samples"))


def _is_behind(seen: datetime | None, end_ms: int) -> bool:
    return seen is None or seen.timestamp() * 1000 < end_ms + 3000


def _shown(found: Energy, samples: object) -> dict[str, object]:
    if found.joules is None:
        return {"reason": found.reason}
    return {
        "joules": found.joules,
        "seconds": found.seconds,
        "mean_watts": found.mean_watts,
        "method": found.method,
        "is_estimated": found.is_estimated,
        "samples_per_joule": samples / found.joules if isinstance(samples, int | float) and found.joules > 0 else None,
    }
