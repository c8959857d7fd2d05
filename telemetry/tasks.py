"""Telemetry's Celery tasks: a few lines each, idempotent."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from celery import shared_task
from django.db import IntegrityError, InterfaceError, OperationalError, connection

from telemetry import rollups
from telemetry.broker.grouped import GroupTask
from telemetry.health.watch import watch
from telemetry.maintenance import upkeep
from telemetry.message.notices import NOTICE_TASK
from telemetry.message.wire import INGEST_TASK, MessageInvalid
from telemetry.notify.deliver import deliver
from telemetry.orders import acknowledgements
from telemetry.receiving import authentic, ingest, reported
from telemetry.store import compact as compaction

logger = logging.getLogger(__name__)

# A database that is away or busy for a while must not cost a message: it is tried again until it is stored. So is one
# whose row somebody else made at the same moment: the next try finds it.
UNTIL_STORED = {
    "autoretry_for": (OperationalError, InterfaceError, IntegrityError),
    "retry_backoff": True,
    "retry_backoff_max": 60,
    "max_retries": None,
}


class IngestTask(GroupTask):
    """Stores batches in groups; a database that is away or busy is waited for."""

    abstract = True
    not_now = (OperationalError, InterfaceError)

    def handle(self, payloads: Sequence[bytes]) -> None:
        try:
            ingest.ingest_group(payloads, datetime.now(UTC))
        except self.not_now:
            connection.close()  # the next try makes a new one
            raise


@shared_task(name=INGEST_TASK, base=IngestTask, bind=True)
def ingest_batch(self: IngestTask, payload: bytes) -> None:
    self.handle([payload])


@shared_task(name=NOTICE_TASK, **UNTIL_STORED)
def ingest_notice(payload: bytes) -> None:
    now = datetime.now(UTC)
    try:
        host, body = authentic.admit(payload, NOTICE_TASK, now)
        reported.ingest_notice(host, body, now)
    except MessageInvalid as error:
        logger.warning("a notice was refused: %s", error)


@shared_task(name="telemetry.acknowledge_batches")
def acknowledge_batches() -> None:
    acknowledgements.send_due(datetime.now(UTC))


@shared_task(name="telemetry.roll_up")
def roll_up() -> None:
    rollups.roll_up(budget_seconds=8)


@shared_task(name="telemetry.join_rollups")
def join_rollups() -> None:
    rollups.join(budget_seconds=60)


@shared_task(name="telemetry.compact")
def compact() -> None:
    compaction.compact(datetime.now(UTC), budget_seconds=5)


@shared_task(name="telemetry.retire")
def retire() -> None:
    upkeep.keep(datetime.now(UTC), budget_seconds=60)


@shared_task(name="telemetry.watch_health")
def watch_health() -> None:
    watch(datetime.now(UTC))


@shared_task(name="telemetry.deliver_alerts")
def deliver_alerts() -> None:
    deliver(datetime.now(UTC))
