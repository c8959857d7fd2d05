"""What the host tells the server of one job, in an order that grows across restarts of the agent. No Django.

A final report is on the disk before it is submitted and stays there until the broker has it.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from telemetry.agent.context import AgentContext
from training.host.records import Record, Records
from training.message.wire import MAX_LOG_CHARACTERS, REPORT_TASK, JobReport, pack

logger = logging.getLogger(__name__)

_MAX_REASON_CHARACTERS = 4_000
_LIFE = 10**9  # reports that one life of the agent may send of a job; the next life's numbers begin above them


def now_ms() -> int:
    """Return UTC in milliseconds."""
    return time.time_ns() // 1_000_000


class Reporter:
    """Sends the reports of one job. Used by one thread at a time."""

    def __init__(self, context: AgentContext, records: Records, record: Record, *, is_new_life: bool = False) -> None:
        self._context = context
        self._records = records
        self._job, self._launch = record.job, record.launch
        self._sequence = (record.sequence // _LIFE + 1) * _LIFE if is_new_life else record.sequence

    def tell(self, state: str, at_ms: int, **facts: Any) -> None:
        """Report a state that may still change; `facts` are JobReport's other fields."""
        # One that still waits is void: a broker that is away must not make chatty jobs push telemetry out.
        self._context.submit(REPORT_TASK, pack(self._report(state, at_ms, facts)), replaces=f"job-{self._job}")

    def end(self, state: str, at_ms: int, reason: str, **facts: Any) -> None:
        """Report the final state: first to the disk, so that a killed agent says it after its restart.

        Where the disk takes nothing, it is told all the same: this life may be the last that knows of it.
        """
        report = self._report(state, at_ms, {"reason": reason[:_MAX_REASON_CHARACTERS], **facts})
        try:
            self._records.update(
                self._job, state=state, changed_ms=at_ms, sequence=report.sequence, final_report=asdict(report)
            )
        except OSError:
            logger.exception("the end of reference job %d is not on the disk", self._job)
            self._context.submit(REPORT_TASK, pack(report))
            return
        submit_final(self._context, self._records, report)

    def _report(self, state: str, at_ms: int, facts: dict[str, Any]) -> JobReport:
        self._sequence += 1
        if facts.get("log") is not None:
            facts = {**facts, "log": facts["log"][-MAX_LOG_CHARACTERS:]}
        return JobReport(
            job=self._job,
            launch=self._launch,
            host=self._context.host,
            sequence=self._sequence,
            state=state,
            at_ms=at_ms,
            **facts,
        )


def submit_final(context: AgentContext, records: Records, report: JobReport) -> None:
    """Submit a final report; its record is told when the broker has it."""
    context.submit(REPORT_TASK, pack(report), on_sent=_marker(records, report))


def _marker(records: Records, report: JobReport) -> Callable[[], None]:
    def mark() -> None:
        try:
            records.mark_sent(report.job, report.launch, report.sequence)
        except OSError:  # the sender's own way goes on
            logger.exception(
                "it is not on the disk that the end of reference job %d was told: it is told again", report.job
            )

    return mark
