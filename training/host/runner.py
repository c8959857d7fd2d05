"""Takes orders and cancels, and sees to it that every job of this host ends in a known state. No Django, no torch.

Messages are only put into an inbox; one thread decides, and each job has a thread of its own.
"""

import logging
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Condition, Thread

from telemetry.agent.context import AgentContext
from telemetry.agent.full_disk import why_not_written
from telemetry.message.wire import DeviceInfo, MessageInvalid
from training.host import endings
from training.host.job import AGENT_STOPPED, CANCEL, KILL_AFTER_SECONDS, Job
from training.host.process import signal_group, started_ticks
from training.host.records import Record, Records
from training.host.reports import Reporter, now_ms, submit_final
from training.message.wire import REPORT_TASK, JobOrder, JobReport, pack, unpack_cancel, unpack_order
from training.workloads.catalog import validate
from training.workloads.params import ParamsInvalid

logger = logging.getLogger(__name__)

TURN_SECONDS = 10.0  # so long a job waits for one that is ending; its process is gone within half of that
DEVICE_WAIT_SECONDS = 15.0  # an order may come before the sampler has found its device; the CPU's comes first
STOP_SECONDS = KILL_AFTER_SECONDS + 1.5  # within what whoever stops the agent gives it: `up` 7 s, systemd's unit 20
AGENT_ENDED = "the agent was stopped or killed while the job ran"
REBOOTED = "the host was started anew (shut down, reset or without power) while the job ran"
_Identity = tuple[int, str]  # a job's number and launch


class OrderRefused(Exception):
    """An order that this host does not carry out; the text is the reason that people see."""


class JobRunner:
    """One for each agent. What an earlier life of it left is settled before the first message, on the same thread."""

    def __init__(self, context: AgentContext, device_wait_seconds: float = DEVICE_WAIT_SECONDS) -> None:
        self._context = context
        self._records = Records(context.directory / "jobs")
        self._device_wait_seconds = device_wait_seconds
        self._inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._lock = Condition()  # over what is running: the deciding thread adds, the jobs' threads remove
        self._is_stopping = False
        self._jobs: dict[_Identity, Job] = {}
        self._busy: dict[str, _Identity] = {}
        self._inbox.put(self._recover)
        Thread(target=self._decide, name="jobs", daemon=True).start()

    def take_order(self, payload: bytes) -> None:
        self._inbox.put(partial(self._order, payload))

    def refuse_order(self, payload: bytes, reason: str) -> None:
        """Say of an order that it is not carried out, and nothing else: this host cannot note it."""
        self._inbox.put(partial(self._refuse, payload, reason))

    def take_cancel(self, payload: bytes) -> None:
        self._inbox.put(partial(self._cancel, payload))

    def stop(self) -> None:
        """End all jobs, have each say why, and take no more. What does not end in time, the agent's next life tells of."""
        self._inbox.put(self._end_all)
        with self._lock:
            if not self._lock.wait_for(lambda: self._is_stopping and not self._jobs, STOP_SECONDS):
                logger.warning(
                    "%d reference jobs had not ended %g s after the agent's stop", len(self._jobs), STOP_SECONDS
                )

    def _end_all(self) -> None:
        """After this nothing is decided any more: an order that comes still was not taken, and the server sends another."""
        with self._lock:
            self._is_stopping = True
            for job in self._jobs.values():
                job.cancel(AGENT_STOPPED)
            self._lock.notify_all()

    def _recover(self) -> None:
        """Say what became of the jobs that an earlier life of this agent left, and forget old ones."""
        at_ms = now_ms()
        for record in self._records.all():
            try:
                self._settle(record, at_ms)
            # A full disk, or a record with fields that no agent wrote: it stays, and the next life tries again.
            except (OSError, ValueError, TypeError, OverflowError):
                logger.exception("reference job %s could not be settled; its record stays", record.job)
        self._records.prune(at_ms)

    def _settle(self, record: Record, at_ms: int) -> None:
        if record.has_ended:
            if not record.is_sent:
                self._say_again(record)
            return
        is_rebooted = bool(record.boot_id) and record.boot_id != endings.boot_id()
        if not is_rebooted and record.pid and started_ticks(record.pid) == record.started_ticks > 0:
            signal_group(record.pid, signal.SIGKILL)
        reporter = Reporter(self._context, self._records, record, is_new_life=True)
        reporter.end("lost", at_ms, REBOOTED if is_rebooted else AGENT_ENDED)

    def _decide(self) -> None:
        while not self._is_stopping:
            act = self._inbox.get()
            try:
                act()
            except MessageInvalid as error:
                logger.warning("a message about a job was left out: %s", error)
            except Exception:  # the thread's outermost loop: one bad message must not end all jobs
                logger.exception("a message about a job could not be handled")

    def _order(self, payload: bytes) -> None:
        """Start a job, unless this very order is known already."""
        order = unpack_order(payload)
        if order.host != self._context.host:
            logger.warning("an order for host %s came to %s; it was left out", order.host, self._context.host)
            return
        at_ms = now_ms()
        if self._is_late(order, at_ms):
            logger.info("the order of reference job %d came late: the server asks again and sends another", order.job)
            return
        record = Record(order.job, order.launch, "starting", at_ms, boot_id=endings.boot_id())
        try:
            known = self._claim(record)
        except OSError as error:
            self._answer_without_record(order, at_ms, why_not_written(self._records.directory, error))
            return
        if known is not None:
            self._answer_for(known, order, at_ms)
            return
        job = Job(order, self._context, self._records, Reporter(self._context, self._records, record))
        try:
            params = self._accept(order, at_ms)
            self._reserve(order, job)
        except OrderRefused as refusal:
            job.refuse(str(refusal))
            return
        Thread(target=self._run, args=(order, job, params), name=f"job-{order.job}", daemon=True).start()

    def _is_late(self, order: JobOrder, at_ms: int) -> bool:
        """Tell whether an order would start a job too long after the server asked whether it may start.

        One of a job that is known starts nothing, and is answered whenever it comes. Where nobody has compared this host's
        clock with the server's yet, it is taken as it is.
        """
        offset, error = self._context.clock_offset() or (0.0, 0.0)
        if not order.starts_by_ms or at_ms + (offset - error) * 1000 <= order.starts_by_ms:
            return False
        known = self._records.get(order.job)
        return known is None or known.launch != order.launch

    def _claim(self, record: Record) -> Record | None:
        """Write a new job's record before anything is started; else return the one that holds the job's number.

        A server that was set up anew counts its jobs from 1 again: an ended job of another launch makes way.
        """
        if self._records.claim(record):
            return None
        known = self._records.get(record.job)
        if known is None or (known.has_ended and known.launch != record.launch):
            if known is not None and not known.is_sent:
                self._say_a_last_time(known)
            self._records.put(record)
            return None
        return known

    def _answer_for(self, known: Record, order: JobOrder, at_ms: int) -> None:
        """Answer an order that starts nothing: it is a known one, or its number belongs to a job that still runs."""
        if known.launch == order.launch:
            logger.info("the order of reference job %d is known already: nothing is started", order.job)
            self._say_again(known)
            return
        reason = f"{order.host} still runs a reference job {order.job} of another launch ({known.launch}), so of another server"
        self._answer_without_record(order, at_ms, reason)  # the number's record is the running job's

    def _refuse(self, payload: bytes, reason: str) -> None:
        order = unpack_order(payload)
        if order.host == self._context.host:
            self._answer_without_record(order, now_ms(), reason)

    def _answer_without_record(self, order: JobOrder, at_ms: int, reason: str) -> None:
        logger.warning("reference job %d is not carried out: %s", order.job, reason)
        report = JobReport(order.job, order.launch, order.host, sequence=1, state="failed", at_ms=at_ms, reason=reason)
        self._context.submit(REPORT_TASK, pack(report))

    def _accept(self, order: JobOrder, at_ms: int) -> dict[str, int | str]:
        if at_ms > order.expires_ms:
            expired = datetime.fromtimestamp(order.expires_ms / 1000, UTC).isoformat(" ", "seconds")
            raise OrderRefused(f"the order expired at {expired} before this host took it")
        try:
            return validate(order.workload, order.params)[1]
        except ParamsInvalid as error:
            raise OrderRefused(str(error)) from error

    def _reserve(self, order: JobOrder, job: Job) -> None:
        """Take the device, or stand behind a job on it that is ending: the server may know of that before it is so."""
        identity = (order.job, order.launch)
        with self._lock:
            holder = self._busy.setdefault(order.device_uuid, identity)
            if holder != identity and not self._jobs[holder].is_ending:
                raise _is_busy(order, holder)
            self._jobs[identity] = job

    def _take_turn(self, order: JobOrder, job: Job) -> None:
        """Wait until the device is this job's."""
        identity, deadline = (order.job, order.launch), time.monotonic() + TURN_SECONDS
        while True:
            with self._lock:
                holder = self._busy.setdefault(order.device_uuid, identity)
            if holder == identity:
                return
            if time.monotonic() >= deadline or job.is_cancelled:
                raise _is_busy(order, holder)
            time.sleep(0.1)

    def _run(self, order: JobOrder, job: Job, params: dict[str, int | str]) -> None:
        """A job's thread. It outlives the job's process, which the kernel kills with this thread."""
        try:
            self._take_turn(order, job)
            job.run(self._device(order.device_uuid, job), params)
        except OrderRefused as refusal:
            job.refuse(str(refusal))
        except OSError as error:
            logger.exception("reference job %d could not be noted", order.job)
            job.refuse(why_not_written(Path(error.filename or self._records.directory), error))
        except Exception as error:  # the thread's outermost call: the job must not end without a state
            logger.exception("reference job %d could not be watched", order.job)
            job.refuse(f"the agent could not watch the job: {type(error).__name__}: {error}")
        finally:
            with self._lock:
                del self._jobs[order.job, order.launch]
                if self._busy.get(order.device_uuid) == (order.job, order.launch):
                    del self._busy[order.device_uuid]
                self._lock.notify_all()

    def _device(self, uuid: str, job: Job) -> DeviceInfo:
        """Return the device; waits for the sampler to find it, as a driver may take long to answer."""
        deadline = time.monotonic() + self._device_wait_seconds
        while True:
            for device in self._context.devices():
                if device.uuid == uuid:
                    return device
            if time.monotonic() >= deadline or job.is_cancelled:
                raise OrderRefused(f"this host has no device {uuid!r}")
            time.sleep(0.1)

    def _cancel(self, payload: bytes) -> None:
        """End a job; a cancel that overtook its order is remembered, so that the order starts nothing."""
        number, launch, host = unpack_cancel(payload)
        if host != self._context.host:
            logger.warning("a cancel for host %s came to %s; it was left out", host, self._context.host)
            return
        with self._lock:
            job = self._jobs.get((number, launch))
        if job is not None:
            job.cancel()
            return
        at_ms = now_ms()
        record = Record(number, launch, "cancelled", at_ms)
        known = self._claim(record)
        if known is None:
            Reporter(self._context, self._records, record).end(CANCEL.state, at_ms, CANCEL.early)
        elif known.launch == launch:
            self._say_again(known)
        else:
            logger.warning("a cancel names launch %s of reference job %d, which runs as another", launch, number)

    def _say_a_last_time(self, record: Record) -> None:
        """Hand on the final report of a job whose record makes way: its server may not have heard of its end."""
        try:
            self._say_again(record)
        except (ValueError, TypeError, OverflowError):  # fields that no agent wrote
            logger.exception("the end of reference job %s cannot be told; its record makes way", record.job)

    def _say_again(self, record: Record) -> None:
        """Repeat an ended job's final report: the server asks because a broker lost it, or the agent died before it went."""
        if record.final_report:
            submit_final(self._context, self._records, JobReport(**record.final_report))


def _is_busy(order: JobOrder, holder: _Identity) -> OrderRefused:
    return OrderRefused(f"device {order.device_uuid} is busy with reference job {holder[0]}")
