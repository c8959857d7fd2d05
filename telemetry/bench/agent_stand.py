"""The stand of the agent's bench: a broker, the stubbed driver, and the processes that are measured side by side.

Called by the agent's benches. The stub is built by the tests' own module, from the tree.
"""

import importlib
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import psutil
from celery import Celery
from django.conf import settings
from redis import Redis

from fleet.joining import server_key
from fleet.settings import BASE_DIR, embedded_broker_url
from fleet.up import broker
from fleet.up.child import Child
from fleet.up.processes import agent_command, agent_environment
from fleet.up.supervisor import Console, Supervisor
from telemetry.agent.membership import enrol_here
from telemetry.bench.agent_wire import sent_by
from telemetry.bench.figure import BenchFailed
from telemetry.broker.transport import CELERY_OPTIONS
from telemetry.message.acknowledgement import ACKNOWLEDGE_TASK, Acknowledgement, pack
from telemetry.message.envelope import seal_order
from telemetry.message.wire import INGEST_QUEUE, host_queue

DEVICES = 8
_STUB_BUILDER = "tests.nvml_stub.build"
_BROKER_SECONDS = 10.0
_MARK = "STEPWATT_BENCH_SIDE"
_ORDER_MS = 60_000


class Stand:
    """What is started here ends with the context. A `side` is a process by its name."""

    def __init__(self, supervisor: Supervisor, directory: Path) -> None:
        self._supervisor, self._directory = supervisor, directory
        self.broker_url = _start_broker(supervisor, directory / "broker")
        self.queue = Redis.from_url(self.broker_url)
        self._app = Celery(broker=self.broker_url, set_as_current=False, fixups=[])
        self._app.conf.update(CELERY_OPTIONS)
        self._driver = _driver(directory / "stub")

    def start_agent(self, side: str, **settings: str) -> None:
        """Start an agent that has joined as the host `side`."""
        self.start(side, agent_command("run"), **self.joined(side), **settings)

    def joined(self, side: str) -> dict[str, str]:
        """Return the environment of an agent that has joined as the host `side`."""
        data = self._directory / side
        enrol_here(data / "agent", side, self.broker_url, server_key.public_bytes())
        return {"STEPWATT_DATA_DIR": str(data)}

    def start(self, side: str, argv: tuple[str, ...], **own: str) -> None:
        environment = {
            name: value
            for name, value in agent_environment(self.broker_url).items()
            if not name.startswith("STEPWATT_") or name == "STEPWATT_BROKER_URL"
        }
        self._supervisor.start(Child(side, argv, BASE_DIR, {**environment, **self._driver, **own, _MARK: side}))

    def wait(self, seconds: float) -> None:
        self._supervisor.run_until(lambda: False, within_seconds=seconds)
        if self._supervisor.stop_asked:
            raise BenchFailed("stopped")

    def pid(self, side: str) -> int:
        for process in psutil.Process().children():
            if process.environ().get(_MARK) == side:
                return int(process.pid)
        raise BenchFailed(f"{side} does not run; what it said stands above")

    def messages(self) -> list[bytes]:
        """Return the messages that wait in the broker for the server, oldest first."""
        return list(reversed(self.queue.lrange(INGEST_QUEUE, 0, -1)))  # type: ignore[arg-type]  # redis-py's two-way hints

    def acknowledge(self, side: str) -> int:
        """Take that host's batches out of the broker, and tell it that they are stored, as a server does; returns how many."""
        taken = sent_by(side, self.messages())
        self.queue.delete(INGEST_QUEUE)
        for epoch in {sent.batch.epoch for sent in taken}:
            of_epoch = [sent.batch for sent in taken if sent.batch.epoch == epoch]
            newest = max(of_epoch, key=lambda batch: batch.sequence)
            now_ms = int(time.time() * 1000)
            told = Acknowledgement(
                epoch, [(number, number) for number in sorted({batch.sequence for batch in of_epoch})],
                newest.sent_ms, now_ms, now_ms,
            )  # fmt: skip
            order = seal_order(server_key.private(), ACKNOWLEDGE_TASK, side, pack(told), now_ms + _ORDER_MS)
            self._app.send_task(ACKNOWLEDGE_TASK, [order], queue=host_queue(side), argsrepr="")
        return len(taken)


@contextmanager
def stand(directory: Path, *sides: str) -> Iterator[Stand]:
    """Yield a stand for these sides. Raises BenchFailed."""
    console = Console(sys.stderr.buffer, ("bench", "broker", *sides))
    with Supervisor(console, own_name="bench") as supervisor:
        yield Stand(supervisor, directory)


def _start_broker(supervisor: Supervisor, directory: Path) -> str:
    """Return the URL of an embedded broker that nobody else uses, once it answers."""
    port_file, password = directory / "port", settings.EMBEDDED_BROKER_PASSWORD
    supervisor.start(broker.embedded_broker(directory, port_file, password))
    if not supervisor.run_until(lambda: broker.answers(port_file, password), within_seconds=_BROKER_SECONDS):
        raise BenchFailed("the embedded broker does not answer; what it said stands above")
    return embedded_broker_url(int(port_file.read_text()))


def _driver(directory: Path) -> Mapping[str, str]:
    """Return the environment in which a process finds the stub as its driver."""
    directory.mkdir()
    try:
        builder: ModuleType = importlib.import_module(_STUB_BUILDER)
        library = builder.build(directory)
    except (ImportError, OSError, subprocess.CalledProcessError) as error:
        raise BenchFailed(f"the stub of the driver cannot be built (cc, tests/requirements.txt): {error}") from error
    control = directory / "control"
    control.touch()
    return {
        "LD_LIBRARY_PATH": str(library.parent),
        "STEPWATT_NVML_STUB_CONTROL": str(control),
        "STEPWATT_NVML_STUB_DEVICES": str(DEVICES),
    }
