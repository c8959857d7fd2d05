"""One reference job on this host, from its process's start to its final report, on a thread of its own. No Django."""

import logging
import signal
import time
from threading import Event
from typing import NamedTuple

from telemetry.agent.context import AgentContext
from telemetry.message.wire import DeviceInfo
from training.host import endings, meeting
from training.host.meeting import Meeting, NoMeeting
from training.host.output import JobOutput
from training.host.process import JobProcess
from training.host.records import Records
from training.host.reports import Reporter, now_ms
from training.message.wire import JobOrder, steps_launch

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5  # each look takes time from a training that has all cores; what the job says wakes at once
REPORT_SECONDS = 1.0
KILL_AFTER_SECONDS = 3.0  # after a cancel's SIGTERM


class Ending(NamedTuple):
    """Why a job is ended before its time: the state that it then has, and the reason, by whether it had begun."""

    state: str
    while_running: str
    early: str


CANCEL = Ending("cancelled", "cancelled while it ran", "cancelled before it started")
AGENT_STOPPED = Ending(
    "lost",
    "the agent was stopped while the job ran, and ended it",
    "the agent was stopped before it started the job",
)


class Job:
    """A job whose order was accepted. `cancel` may be called from any thread, at any time, twice: the first counts."""

    def __init__(self, order: JobOrder, context: AgentContext, records: Records, reporter: Reporter) -> None:
        self._order = order
        self._context = context
        self._records = records
        self._reporter = reporter
        self._cancel = Event()
        self._ending = CANCEL
        self._is_over = self._was_told_to_end = False
        self._told_log_changes = 0
        self._oom_kills: int | None = None
        self._meeting: Meeting | None = None

    def cancel(self, ending: Ending = CANCEL) -> None:
        if not self.is_cancelled:
            self._ending = ending
            self._cancel.set()

    @property
    def is_cancelled(self) -> bool:
        return self._cancel.is_set()

    @property
    def is_ending(self) -> bool:
        """Tell whether its device is about to be free: it is cancelled, or its end is told already."""
        return self.is_cancelled or self._is_over

    def refuse(self, reason: str) -> None:
        """End the job before it has a process."""
        self._is_over = True
        if self.is_cancelled:
            self._reporter.end(self._ending.state, now_ms(), self._ending.early)
        else:
            self._reporter.end("failed", now_ms(), reason)

    def run(self, device: DeviceInfo, params: dict[str, int | str]) -> None:
        """Do the job and report its end. The job's process is gone when this returns or raises."""
        if self.is_cancelled:
            self._reporter.end(self._ending.state, now_ms(), self._ending.early)
            return
        self._oom_kills = endings.oom_kills()
        try:
            self._meeting = self._meet()
        except NoMeeting as error:
            self.refuse(str(error))
            return
        self._reporter.tell("starting", now_ms(), **self._met)
        process = self._start(device, params)
        if process is not None:
            self._see_through(process)

    def _meet(self) -> Meeting | None:
        """Return where the ranks meet, None for a job that runs alone. Raises NoMeeting."""
        if self._order.ranks is None:
            return None
        return meeting.prepare(self._order.ranks, self._context.job_address, self._context.broker_host)

    def _start(self, device: DeviceInfo, params: dict[str, int | str]) -> JobProcess | None:
        """Return the job's process; None where the job was refused, as it has none."""
        order = self._order_of_process(device, params)
        place = self._meeting
        try:
            return JobProcess(
                self._context.job_python,
                order,
                self._context.directory,
                handed=place.handed if place else (),
                extra=place.environment if place else {},
            )
        except OSError as error:
            python = self._context.job_python
            self.refuse(f"the jobs' interpreter {python} cannot be started ({error.strerror}); see STEPWATT_JOB_PYTHON")
            return None
        finally:
            if place is not None:
                place.close()  # the process has it: when it ends, nobody listens any more

    def _see_through(self, process: JobProcess) -> None:
        output = JobOutput(process.events, process.output)
        try:
            self._records.update(
                self._order.job,
                state="running",
                changed_ms=now_ms(),
                pid=process.pid,
                started_ticks=process.started_ticks,
            )
            is_over_limit = self._watch(process, output)
        finally:
            status = process.reap()
            output.drain()
            process.close()
        self._end(output, status, is_over_limit=is_over_limit)

    def _order_of_process(self, device: DeviceInfo, params: dict[str, int | str]) -> dict[str, object]:
        """Return the fields of training.reference.order.Order."""
        ranks = self._order.ranks
        return {
            "workload": self._order.workload,
            "params": params,
            "device_kind": device.kind.value,
            "device_uuid": device.uuid,
            "driver_version": device.driver_version,
            "run": f"reference {self._order.workload}",
            "launch": steps_launch(ranks.head if ranks else self._order.job, self._order.launch),
            "socket_path": str(self._context.socket_path),
            "meeting": self._meeting_of_process(),
        }

    def _meeting_of_process(self) -> dict[str, object] | None:
        """Return the fields of training.reference.order.Meeting, None for a job that runs alone."""
        ranks, place = self._order.ranks, self._meeting
        if ranks is None or place is None:
            return None
        return {
            "rank": ranks.rank,
            "world_size": ranks.world_size,
            "token": ranks.token,
            "address": place.address,
            "port": place.port,
            "listener": next(iter(place.handed), None),
        }

    @property
    def _met(self) -> dict[str, str]:
        """Return what each report but the last says of the meeting, as one that waits is replaced by the next."""
        words = self._meeting.words if self._meeting else ""
        return {"meeting": words} if words else {}

    def _watch(self, process: JobProcess, output: JobOutput) -> bool:
        """Read, report and obey until the process has ended; True where the time limit ended it."""
        deadline = time.monotonic() + self._order.time_limit_seconds
        kill_at: float | None = None
        report_at, told_stage = 0.0, None
        while not process.has_ended():
            output.read(POLL_SECONDS)
            now = time.monotonic()
            if now >= report_at or output.stage != told_stage:
                self._tell(output)
                report_at, told_stage = now + REPORT_SECONDS, output.stage
            if now >= deadline:
                return True
            if self.is_cancelled and kill_at is None and not process.has_ended():
                kill_at = now + KILL_AFTER_SECONDS
                self._was_told_to_end = True
                process.signal_group(signal.SIGTERM)
            if kill_at is not None and now >= kill_at:
                process.signal_group(signal.SIGKILL)
        return False

    def _tell(self, output: JobOutput) -> None:
        is_log_new = output.log_changes != self._told_log_changes
        self._told_log_changes = output.log_changes
        self._reporter.tell(
            "running" if output.stage else "starting",
            now_ms(),
            stage=output.stage,
            step=output.step,
            total_steps=output.total_steps,
            log=output.log if is_log_new else None,
            **self._met,
        )

    def _end(self, output: JobOutput, status: int, *, is_over_limit: bool) -> None:
        state, reason = self._verdict(output, status, is_over_limit=is_over_limit)
        self._is_over = True
        self._reporter.end(
            state,
            now_ms(),
            reason,
            stage=output.stage,
            step=output.step,
            total_steps=output.total_steps,
            log=output.log,
            result=output.result or {} if state == "done" else {},
        )

    def _verdict(self, output: JobOutput, status: int, *, is_over_limit: bool) -> tuple[str, str]:
        """Return (state, reason) of an ended process. A result counts only with exit status 0.

        One that had ended by itself when its cancel came has a reason of its own: of ranks it may be the one that ended all.
        """
        if status == 0 and output.result is not None:
            return "done", ""
        if self._was_told_to_end:
            return self._ending.state, self._ending.while_running
        if is_over_limit:
            return "failed", f"took longer than its limit of {self._order.time_limit_seconds} s"
        if output.failure:
            return "failed", output.failure
        if status < 0:
            return "failed", endings.killed_by(-status, self._oom_kills, endings.oom_kills())
        last = f"; its last line: {output.last_line}" if output.last_line else ""
        return "failed", f"the job's process ended with exit status {status} and no result{last}"
