"""A stand-in for the agent around the job runner: it collects what is submitted, and awaits conditions with a deadline."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Lock

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from telemetry.agent.context import AgentContext
from telemetry.agent.orders import OrderDesk
from telemetry.message.notices import Notice
from telemetry.message.wire import DeviceInfo, DeviceKind
from training.host.records import Record, Records
from training.host.runner import JobRunner
from training.message.wire import REPORT_TASK, JobOrder, JobReport, pack, pack_cancel, unpack_report

HOST = "node-1"
LAUNCH = "0a1b2c"
CPU = DeviceInfo("cpu-0001", DeviceKind.CPU, 0, "A processor")
GPU = DeviceInfo("GPU-00000000-0000-0000-0000-000000000000", DeviceKind.NVIDIA, 0, "An accelerator")
SERVER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
TINY = {"steps": 5, "warmup_steps": 1, "batch_size": 2, "size": "ci"}


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)


class StandInAgent:
    """One life of an agent in `directory`; `has_broker` False keeps everything that is submitted from being sent."""

    def __init__(
        self,
        directory: Path,
        job_python: str = sys.executable,
        *,
        has_broker: bool = True,
        device_wait_seconds: float = 15.0,
        host: str = HOST,
    ) -> None:
        self.directory = directory
        self.host = host
        self.reports: list[JobReport] = []
        self.notices: list[Notice] = []
        self.endings: list[Callable[[], None]] = []
        self._has_broker = has_broker
        self._lock = Lock()
        self.devices = [CPU, GPU]
        self.clock_offset: tuple[float, float] | None = None
        self.context = AgentContext(
            host=host,
            directory=directory,
            socket_path=directory / "steps.sock",
            job_python=job_python,
            job_address="127.0.0.1",
            broker_host="127.0.0.1",
            submit=self._submit,
            orders=OrderDesk(directory, host, SERVER_KEY.public_key().public_bytes_raw(), self.notices.append),
            clock_offset=lambda: self.clock_offset,
            devices=lambda: self.devices,
            on_frames=lambda handler: None,
            on_cargo=lambda name, source: None,
            on_end=self.endings.append,
        )
        self.runner = JobRunner(self.context, device_wait_seconds)

    def _submit(
        self, task: str, payload: bytes, *, replaces: str = "", on_sent: Callable[[], None] | None = None
    ) -> None:
        assert task == REPORT_TASK
        with self._lock:
            self.reports.append(unpack_report(payload))
        if on_sent and self._has_broker:
            on_sent()

    def order(self, job: int, **changes) -> bytes:
        fields = {
            "launch": LAUNCH,
            "host": self.host,
            "workload": "gpt-train",
            "params": TINY,
            "device_uuid": CPU.uuid,
            "expires_ms": int(time.time() * 1000) + 60_000,
            "time_limit_seconds": 600,
        }
        payload = pack(JobOrder(job=job, **{**fields, **changes}))
        self.runner.take_order(payload)
        return payload

    def cancel(self, job: int, launch: str = LAUNCH) -> None:
        self.runner.take_cancel(pack_cancel(job, launch, self.host))

    def record(self, job: int) -> Record | None:
        return Records(self.directory / "jobs").get(job)

    def reports_of(self, job: int) -> list[JobReport]:
        return [report for report in self.reports if report.job == job]

    def states(self, job: int) -> list[str]:
        """Return the states reported so far, each change once."""
        return list(_changes(report.state for report in self.reports_of(job)))

    def end_of(self, job: int, seconds: float = 120.0) -> JobReport:
        """Wait for the job's final report."""
        final = ("done", "failed", "cancelled", "lost")
        until(lambda: any(report.state in final for report in self.reports_of(job)), seconds)
        return next(report for report in self.reports_of(job) if report.state in final)

    def has_decided(self) -> None:
        """Wait until everything that was put in before has been decided upon."""
        decided = Event()
        self.runner._inbox.put(decided.set)
        assert decided.wait(60)

    def running(self, job: int) -> Record:
        """Wait until the job has a process, and return its record."""
        until(lambda: (self.record(job) or Record(job, "", "", 0)).state == "running")
        record = self.record(job)
        assert record is not None
        return record


def _changes(values: Iterator[str]) -> Iterator[str]:
    last = None
    for value in values:
        if value != last:
            yield value
        last = value


def interpreter(directory: Path, body: str) -> str:
    """Return a program that stands in for the jobs' Python; `$5` is the number of the pipe for events."""
    path = directory / "python"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


SLEEPS = "echo working; exec sleep 60"
STUBBORN = 'trap "" TERM; echo working; while :; do sleep 0.2; done'
SUCCEEDS = """echo "$$" >> started
echo '{"event": "stage", "name": "build"}' > /dev/fd/$5
echo '{"event": "result", "result": {"samples": 10}}' > /dev/fd/$5"""


def is_alive(pid: int) -> bool:
    """Say whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
