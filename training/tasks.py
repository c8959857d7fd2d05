"""Training's Celery tasks: a few lines each, idempotent."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from celery import shared_task
from django.db import InterfaceError, OperationalError, connection

from fleet.turns import Turns
from telemetry.broker.grouped import GroupTask
from telemetry.maintenance.noted import noted
from telemetry.message.wire import MessageInvalid
from telemetry.receiving import authentic
from telemetry.tasks import UNTIL_STORED
from training.jobs import ingest, ladder_runs, visits, watch
from training.judging import judge, suspicion
from training.message import wire
from training.runs import ingest as step_ingest
from training.runs import lives, measures, mfu_history, retention
from training.steps.store import compact

logger = logging.getLogger(__name__)
_TURN_SECONDS = 5.0  # of judge_jobs: what is not judged by then is asked for again
_AT_ONCE = 50


@shared_task(name=wire.STEPS_TASK, **UNTIL_STORED)
def ingest_steps(payload: bytes) -> None:
    try:
        now = datetime.now(UTC)
        step_ingest.ingest_message(*authentic.admit(payload, wire.STEPS_TASK, now), now)
    except MessageInvalid as error:
        logger.warning("step timings were refused: %s", error)


class ReportTask(GroupTask):
    """Applies job reports in groups; a database that is away or busy is waited for."""

    abstract = True
    longest_wait_seconds = 0.1  # somebody looks at the job
    not_now = (OperationalError, InterfaceError)

    def handle(self, payloads: Sequence[bytes]) -> None:
        try:
            ingest.ingest_reports(payloads, datetime.now(UTC))
        except self.not_now:
            connection.close()  # the next try makes a new one
            raise


@shared_task(name=wire.REPORT_TASK, base=ReportTask, bind=True)
def ingest_report(self: ReportTask, payload: bytes) -> None:
    self.handle([payload])


@shared_task(name="training.watch_jobs")
def watch_jobs() -> None:
    watch.watch(datetime.now(UTC))


@shared_task(name="training.judge_jobs")
def judge_jobs() -> None:
    """Have each job that has ended judged by a task of its own, so that one that cannot be judged keeps back no other."""
    now = datetime.now(UTC)
    for job in judge.waiting(now)[:_AT_ONCE]:
        judge_job.apply_async((job.pk,), expires=_TURN_SECONDS)
    turns = Turns[str]("following")
    for part in (suspicion, ladder_runs, visits):
        with turns.of(part.__name__):
            part.follow(now)
    turns.end()


@shared_task(name="training.judge_job")
def judge_job(job_id: int) -> None:
    now = datetime.now(UTC)
    job = judge.waiting(now).filter(pk=job_id).first()
    if job is not None:
        suspicion.open_suspicion(judge.judge(job, now), now)


@shared_task(name="training.compact_steps")
def compact_steps() -> None:
    now = datetime.now(UTC)
    with noted("steps joined", now) as done:
        done.done = compact.compact(now, budget_seconds=5)


@shared_task(name="training.measure_runs")
def measure_runs() -> None:
    now = datetime.now(UTC)
    turns = Turns[str]("measuring")
    with turns.of("running runs"):
        measures.measure(now, budget_seconds=10)
    with turns.of("the fleet's MFU"):
        mfu_history.note(now)
    with turns.of("lives"):
        lives.measure(now, budget_seconds=10)
    turns.end()


@shared_task(name="training.retire_runs")
def retire_runs() -> None:
    now = datetime.now(UTC)
    with noted("runs retired", now) as done:
        done.done = retention.retire(now, budget_seconds=30)
