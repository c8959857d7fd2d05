"""Training's Celery tasks: a few lines each, idempotent."""

import logging
from datetime import UTC, datetime

from celery import shared_task

from telemetry import authentic
from telemetry.tasks import UNTIL_STORED
from telemetry.wire import MessageInvalid
from training import ingest, step_ingest, watch, wire

logger = logging.getLogger(__name__)


@shared_task(name=wire.STEPS_TASK, **UNTIL_STORED)
def ingest_steps(payload: bytes) -> None:
    try:
        step_ingest.ingest_message(*authentic.admit(payload, wire.STEPS_TASK, datetime.now(UTC)))
    except MessageInvalid as error:
        logger.warning("step timings were refused: %s", error)


@shared_task(name=wire.REPORT_TASK, **UNTIL_STORED)
def ingest_report(payload: bytes) -> None:
    now = datetime.now(UTC)
    try:
        ingest.ingest_report(*authentic.admit(payload, wire.REPORT_TASK, now), now)
    except MessageInvalid as error:
        logger.warning("a job report was refused: %s", error)


@shared_task(name="training.watch_jobs")
def watch_jobs() -> None:
    watch.watch(datetime.now(UTC))
