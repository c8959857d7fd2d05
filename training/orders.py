"""Sending job orders and cancels to a host's own queue.

A broker that is away is no failure of the launch: the job stays queued, and `watch` (training/watch.py) sends its order again.
"""

import logging
from datetime import datetime

from celery import current_app
from kombu.exceptions import OperationalError

from telemetry.wire import host_queue
from training import wire
from training.models import ReferenceJob

logger = logging.getLogger(__name__)
_CANCEL_LIFETIME_SECONDS = 3600
_PUBLISH_RETRIES = {"max_retries": 2, "interval_start": 0, "interval_step": 0.2}


def send_start(job: ReferenceJob) -> None:
    order = wire.JobOrder(
        job=job.pk,
        host=job.host.name,
        workload=job.workload,
        params=job.params,
        device_uuid=job.device.uuid if job.device else "",
        expires_ms=int(job.expires_at.timestamp() * 1000),
        time_limit_seconds=job.time_limit_seconds,
    )
    _send(wire.START_TASK, wire.pack(order), job, expires=job.expires_at)


def send_cancel(job: ReferenceJob) -> None:
    _send(wire.CANCEL_TASK, wire.pack_cancel(job.pk, job.host.name), job, expires=_CANCEL_LIFETIME_SECONDS)


def _send(task: str, payload: bytes, job: ReferenceJob, *, expires: datetime | int) -> None:
    try:
        current_app.send_task(
            task,
            [payload],
            queue=host_queue(job.host.name),
            expires=expires,
            argsrepr="",
            retry_policy=_PUBLISH_RETRIES,
        )
    except OperationalError:
        logger.warning("broker not reached: %s of reference job %d is sent again later", task, job.pk)
