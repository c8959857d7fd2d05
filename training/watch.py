"""Keeping jobs' states true when nobody speaks: orders not taken, hosts gone silent, energy still to come. Called by beat."""

from datetime import datetime, timedelta

from django.db.models import Q

from telemetry.energy import Energy, energy_between
from training import orders
from training.models import ACTIVE_STATES, JobState, ReferenceJob

RESEND_AFTER = timedelta(seconds=20)
LOST_AFTER = timedelta(seconds=30)
ENERGY_PATIENCE = timedelta(seconds=60)


def watch(now: datetime) -> None:
    _expire_queued(now)
    _send_again(now)
    _declare_lost(now)
    _account_energy(now)


def _expire_queued(now: datetime) -> None:
    for job in ReferenceJob.objects.select_related("host").filter(state=JobState.QUEUED, expires_at__lt=now):
        seen = f"last sample {job.host.last_seen_at:%H:%M:%S} UTC" if job.host.last_seen_at else "it never reported"
        ReferenceJob.objects.filter(pk=job.pk, state=JobState.QUEUED).update(
            state=JobState.FAILED,
            ended_at=now,
            reason=f"{job.host.name} did not take the order before it expired at {job.expires_at:%H:%M:%S} UTC ({seen})",
        )


def _send_again(now: datetime) -> None:
    """Send orders and cancels again that a broker may have lost; the host starts nothing twice."""
    waiting = ReferenceJob.objects.select_related("host", "device").filter(
        Q(heard_at=None) | Q(heard_at__lt=now - RESEND_AFTER), created_at__lt=now - RESEND_AFTER
    )
    for job in waiting.filter(state=JobState.QUEUED):
        if not job.host.is_silent(now) and ReferenceJob.objects.filter(pk=job.pk, state=JobState.QUEUED).update(
            heard_at=now
        ):
            orders.send_start(job)
    cancels = ReferenceJob.objects.select_related("host").filter(
        state__in=ACTIVE_STATES, cancel_requested_at__lt=now - timedelta(seconds=10)
    )
    for job in cancels:
        if ReferenceJob.objects.filter(pk=job.pk).update(cancel_requested_at=now):
            orders.send_cancel(job)


def _declare_lost(now: datetime) -> None:
    """A job that its agent no longer speaks of is lost, until the agent says otherwise."""
    for job in ReferenceJob.objects.select_related("host").filter(
        state__in=[JobState.STARTING, JobState.RUNNING], heard_at__lt=now - LOST_AFTER
    ):
        ReferenceJob.objects.filter(pk=job.pk, state=job.state, heard_at=job.heard_at).update(
            state=JobState.LOST,
            ended_at=now,
            reason=f"the agent on {job.host.name} has not spoken of this job since {job.heard_at:%H:%M:%S} UTC",
        )


def _account_energy(now: datetime) -> None:
    """Fill in power and joules of the measured window once its last samples have arrived."""
    for job in ReferenceJob.objects.select_related("host", "device").filter(state=JobState.DONE, energy={}):
        energy = _energy(job, now)
        if energy is not None:
            ReferenceJob.objects.filter(pk=job.pk, energy={}).update(energy=energy)


def _energy(job: ReferenceJob, now: datetime) -> dict[str, object] | None:
    """Return what the job page shows, None while it is worth waiting."""
    start_ms, end_ms = job.result.get("window_start_ms"), job.result.get("window_end_ms")
    if job.device is None or not isinstance(start_ms, int) or not isinstance(end_ms, int) or end_ms <= start_ms:
        return {"reason": "the result names no measured window or its device is gone"}
    seen = job.host.last_seen_at
    waited = job.ended_at is None or now - job.ended_at > ENERGY_PATIENCE
    if not waited and (seen is None or seen.timestamp() * 1000 < end_ms + 3000):
        return None
    found = energy_between(job.device, start_ms, end_ms)
    if found.joules is None and not waited and "only" in found.reason:
        return None
    return _shown(found, job.result.get("samples"))


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
