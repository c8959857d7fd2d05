"""Sending job orders and cancels to a host, signed by the server.

A broker that is away is no failure of the launch: the job stays as it is, and `watch` (training/watch.py) sends again.
"""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from telemetry import host_orders
from telemetry.host_orders import ForHost
from training import wire
from training.models import ReferenceJob

logger = logging.getLogger(__name__)
_CANCEL_LIFETIME = timedelta(hours=1)
_QUESTION_LIFETIME = timedelta(minutes=1)


def send_start(job: ReferenceJob) -> None:
    send_starts([job])


def send_starts(jobs: Sequence[ReferenceJob]) -> None:
    """Send the orders of all of them at once: one click may mean hundreds of hosts."""
    _send(wire.START_TASK, [ForHost(job.host, _order(job, job.expires_at), job.expires_at) for job in jobs])


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


def _order(job: ReferenceJob, expires_at: datetime) -> bytes:
    order = wire.JobOrder(
        job=job.pk,
        launch=job.launch,
        host=job.host.name,
        workload=job.workload,
        params=job.params,
        device_uuid=job.device.uuid if job.device else "",
        expires_ms=int(expires_at.timestamp() * 1000),
        time_limit_seconds=job.time_limit_seconds,
    )
    return wire.pack(order)


def _send(task: str, messages: Sequence[ForHost]) -> None:
    if messages and not host_orders.send_each(task, messages):
        logger.warning("%s is sent again later", task)
