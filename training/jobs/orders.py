"""Sending job orders and cancels to a host, signed by the server.

A broker that is away is no failure of the launch: the job stays as it is, and `watch` (training/jobs/watch.py) sends again.
"""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from telemetry.orders import host_orders
from telemetry.orders.host_orders import ForHost
from training.jobs.admission import JOIN_WITHIN
from training.message import wire
from training.message.rank_order import RankOrder
from training.models import ReferenceJob
from training.workloads.catalog import as_before

logger = logging.getLogger(__name__)
_CANCEL_LIFETIME = timedelta(hours=1)
_QUESTION_LIFETIME = timedelta(minutes=1)
CLOCK_SLACK = timedelta(minutes=2)  # by so much the host's clock may differ from the server's
# So long what was asked before an order holds; then it is asked again, and sent again.
ASKED_FOR = timedelta(seconds=20)


def send_start(job: ReferenceJob) -> None:
    send_starts([job])


def send_starts(jobs: Sequence[ReferenceJob]) -> None:
    """Send the orders of all of them at once: one click may mean hundreds of hosts.

    Those of a distributed job's ranks that have nowhere to go yet are left out.
    """
    due = [job for job in jobs if job.can_be_sent]
    each = [ForHost(job.host, _order(job, _job_expiry(job), _starts_by(job)), _expiry(job)) for job in due]
    _send(wire.START_TASK, each)


def _job_expiry(job: ReferenceJob) -> datetime:
    return job.expires_at if job.team is None else job.expires_at + CLOCK_SLACK


def _starts_by(job: ReferenceJob) -> datetime:
    """An order starts its job for a shorter time than the job may wait: a host that comes upon it later leaves it.

    It gets another one, after the job was looked at again. Ranks of a distributed job have as long as they wait for each other.
    """
    held = ASKED_FOR if job.team is None else JOIN_WITHIN
    return min(job.expires_at, (job.sent_at or job.created_at) + held)


def _expiry(job: ReferenceJob) -> datetime:
    """Return until when an order counts as one, by a host's clock that nobody has compared with the server's."""
    return _starts_by(job) + CLOCK_SLACK


def ask_again(job: ReferenceJob, now: datetime) -> None:
    """Have the host say once more how a job that it took has ended, by an order that can start nothing.

    Such an order has expired when the host was last heard of it: whoever knows the job answers, whoever does not refuses.
    """
    order = _order(job, job.heard_at or job.created_at)
    _send(wire.START_TASK, [ForHost(job.host, order, now + _QUESTION_LIFETIME)])


def send_cancel(job: ReferenceJob, now: datetime) -> None:
    send_cancels([job], now)


def send_cancels(jobs: Sequence[ReferenceJob], now: datetime) -> None:
    expires = now + _CANCEL_LIFETIME
    each = [ForHost(job.host, wire.pack_cancel(job.pk, job.launch, job.host.name), expires) for job in jobs]
    _send(wire.CANCEL_TASK, each)


def _order(job: ReferenceJob, expires_at: datetime, starts_by: datetime | None = None) -> bytes:
    order = wire.JobOrder(
        job=job.pk,
        launch=job.launch,
        host=job.host.name,
        workload=job.workload,
        params=as_before(job.params),
        device_uuid=job.device.uuid if job.device else "",
        expires_ms=int(expires_at.timestamp() * 1000),
        time_limit_seconds=job.time_limit_seconds,
        ranks=_ranks(job),
        starts_by_ms=int(starts_by.timestamp() * 1000) if starts_by else 0,
    )
    return wire.pack(order)


def _ranks(job: ReferenceJob) -> RankOrder | None:
    team = job.team
    if team is None:
        return None
    if job.rank == 0:
        return RankOrder(job.pk, 0, team.world_size, team.token)
    head = ReferenceJob.objects.values_list("pk", flat=True).filter(team=team, rank=0).first()
    # Without rank 0, whose host was removed, it starts nothing: such an order only asks how the rank ended.
    return RankOrder(head or job.pk, job.rank, team.world_size, team.token, team.address, team.port)


def _send(task: str, messages: Sequence[ForHost]) -> None:
    if messages and not host_orders.send_each(task, messages):
        logger.warning("%s is sent again later", task)
