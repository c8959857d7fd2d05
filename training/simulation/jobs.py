"""The reference jobs of a simulated fleet: its hosts take orders, train on the clock, and report as an agent does. No Django.

Called by the simulation: `take` by the thread that reads the hosts' mail, `tick` by the one that lets the fleet live.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

from telemetry.message.wire import MessageInvalid
from telemetry.simulation.fleet import Fleet
from telemetry.simulation.load import PHASES
from training.message import wire
from training.message.wire import CANCEL_TASK, START_TASK, JobOrder, JobReport
from training.simulation.job import Step, Training
from training.steps import datagram
from training.steps.columns import StepKind
from training.steps.datagram import UNTOLD_NS, WARM_UP, Record
from training.workloads.catalog import validate
from training.workloads.params import ParamsInvalid

logger = logging.getLogger(__name__)

TASKS = (START_TASK, CANCEL_TASK)
# By its command the server knows a job's process as its own.
_AT_WORK = replace(PHASES["compute"], command="python training/reference/start.py", user="stepwatt", allocation=1)

_Identity = tuple[int, str]  # a job's number and launch


class _Refused(Exception):
    """An order that a simulated host does not carry out; the text is the reason that people see."""


class _Place(NamedTuple):
    """A GPU of the fleet."""

    host: int
    device: int


@dataclass(slots=True)
class _Job:
    training: Training
    place: _Place
    sequence: int = 0

    @property
    def order(self) -> JobOrder:
        return self.training.order


class SimulatedJobs:
    """`tell(host, datagrams, now)` hands steps to the agent of the host at that place; `report` sends what it says of a job."""

    def __init__(
        self,
        fleet: Fleet,
        tell: Callable[[int, Sequence[bytes], float], None],
        report: Callable[[JobReport], None],
    ) -> None:
        self._fleet, self._tell, self._report = fleet, tell, report
        self._hosts = {machine.host: place for place, machine in enumerate(fleet.machines)}
        self._inbox: SimpleQueue[tuple[str, bytes]] = SimpleQueue()
        self._jobs: dict[_Identity, _Job] = {}
        self._ended: dict[_Identity, JobReport] = {}

    def take(self, task: str, body: bytes) -> None:
        """Take an order or a cancel that the server has signed: the next tick obeys. From any thread."""
        self._inbox.put((task, body))

    def tick(self, now: float) -> None:
        """Obey what has come, and let each job go on until UTC seconds."""
        while (message := self._next_message()) is not None:
            self._obey(*message, now)
        for job in list(self._jobs.values()):
            machine = self._fleet.machines[job.place.host]
            if now >= machine.silent_until:  # an agent that says nothing says nothing of jobs
                self._go_on(job, now)

    def _next_message(self) -> tuple[str, bytes] | None:
        try:
            return self._inbox.get_nowait()
        except Empty:
            return None

    def _obey(self, task: str, body: bytes, now: float) -> None:
        try:
            if task == CANCEL_TASK:
                self._cancel(*wire.unpack_cancel(body), now)
            else:
                self._start(wire.unpack_order(body), now)
        except MessageInvalid as error:
            logger.warning("a message about a job was left out: %s", error)

    def _start(self, order: JobOrder, now: float) -> None:
        identity = order.job, order.launch
        if identity in self._ended:
            self._report(self._ended[identity])
        if identity in self._ended or identity in self._jobs:
            return
        if order.starts_by_ms and now * 1000 > order.starts_by_ms:
            return  # the server asks anew whether it may start, and sends another
        try:
            job = self._accept(order, now)
        except _Refused as refusal:
            self._end(_report(order, 1, "failed", now, reason=str(refusal)))
            return
        self._jobs[identity] = job
        self._fleet.machines[job.place.host].give(job.place.device, _AT_WORK)
        self._report(_of_job(job, "starting", now))

    def _accept(self, order: JobOrder, now: float) -> _Job:
        if now * 1000 > order.expires_ms:
            raise _Refused("the order expired before this host took it")
        try:
            workload, params = validate(order.workload, order.params)
        except ParamsInvalid as error:
            raise _Refused(str(error)) from error
        if order.ranks is not None or not workload.is_training:
            raise _Refused("a simulated host does reference trainings on one GPU, and nothing else")
        place = self._place(order)
        holder = next((job for job in self._jobs.values() if job.place == place), None)
        if holder is not None:
            raise _Refused(f"device {order.device_uuid} is busy with reference job {holder.order.job}")
        gpu = self._fleet.machines[place.host].gpus[place.device]
        return _Job(Training(order, params, gpu, now), place)

    def _place(self, order: JobOrder) -> _Place:
        host = self._hosts.get(order.host)
        if host is not None:
            for device, info in enumerate(self._fleet.machines[host].devices):
                if info.uuid == order.device_uuid:
                    return _Place(host, device)
        raise _Refused(f"a simulated host runs jobs on its GPUs alone, and has none with UUID {order.device_uuid!r}")

    def _go_on(self, job: _Job, now: float) -> None:
        machine = self._fleet.machines[job.place.host]
        if not machine.answers(job.place.device):
            self._finish(_of_job(job, "failed", now, reason="the driver's calls for its GPU failed"))
            return
        steps = job.training.go_on(now)
        if steps:
            self._tell(job.place.host, _datagrams(job, steps), now)
        if not job.training.is_done:
            self._report(_of_job(job, "running", now))
            return
        result = job.training.result(machine.software())
        if result["loss_end"] < result["loss_start"]:
            self._finish(_of_job(job, "done", now, result=result))
        else:
            self._finish(_of_job(job, "failed", now, reason="the loss did not fall"))

    def _cancel(self, number: int, launch: str, host: str, now: float) -> None:
        identity = number, launch
        if identity in self._ended:
            self._report(self._ended[identity])
        elif identity in self._jobs:
            self._finish(_of_job(self._jobs[identity], "cancelled", now, reason="cancelled while it ran"))
        else:  # it overtook its order, which starts nothing then
            early = "cancelled before it started"
            self._end(JobReport(number, launch, host, 1, "cancelled", round(now * 1000), reason=early))

    def _finish(self, report: JobReport) -> None:
        place = self._jobs.pop((report.job, report.launch)).place
        self._fleet.machines[place.host].give(place.device, None)
        self._end(report)

    def _end(self, report: JobReport) -> None:
        self._ended[report.job, report.launch] = report
        self._report(report)


def _of_job(
    job: _Job, state: str, now: float, *, reason: str = "", result: Mapping[str, Any] = MappingProxyType({})
) -> JobReport:
    """Return the next report of a job."""
    job.sequence += 1
    training = job.training
    return replace(
        _report(job.order, job.sequence, state, now, reason=reason),
        stage=training.stage if state == "running" else "",
        step=len(training.steps),
        total_steps=training.n_steps,
        result=dict(result),
    )


def _report(order: JobOrder, sequence: int, state: str, now: float, *, reason: str = "") -> JobReport:
    return JobReport(order.job, order.launch, order.host, sequence, state, round(now * 1000), reason=reason)


def _datagrams(job: _Job, steps: Sequence[Step]) -> list[bytes]:
    """Return what the job's process tells of its steps."""
    order = job.order
    about = {
        "run": f"reference {order.workload}",
        "launch": wire.steps_launch(order.job, order.launch),
        "rank": 0,
        "world_size": 1,
        "process": UUID(int=order.job).hex,
        "devices": [order.device_uuid],
    }
    head = datagram.put_head(about)
    return [head + datagram.put_record(_record(step, job.training.batch_size)) for step in steps]


def _record(step: Step, n_samples: int) -> Record:
    ended_ns, nanoseconds = round(step.ended * 1e9), round(step.seconds * 1e9)
    return Record(
        step.number - 1, 0, step.number, ended_ns, nanoseconds, UNTOLD_NS, n_samples, math.nan, step.loss,
        StepKind.TRAIN, WARM_UP if step.is_warmup else 0,
    )  # fmt: skip
