"""Made-up hosts that answer orders, for the bench of a launch on many: `python -m training.bench.answering_hosts`. No Django.

Reads one line of JSON ({"broker_url", "seeds", "public_key"}). Each host tells of 8 GPUs every five seconds, takes orders that
the server has signed, and reports a job that makes a step a second until it is cancelled. Ends with its input.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from celery import Celery
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from kombu.connection import Connection
from kombu.entity import Queue
from kombu.message import Message
from kombu.messaging import Consumer

from telemetry.agent.sender import Sender
from telemetry.bench.signals import GPUS_PER_HOST, METRICS, Signals, batch, in_units
from telemetry.broker.transport import CELERY_OPTIONS
from telemetry.message import envelope
from telemetry.message.wire import INGEST_TASK, host_queue, pack
from training.message import wire
from training.message.wire import CANCEL_TASK, REPORT_TASK, START_TASK, JobReport

_BATCH_SECONDS, _REPORT_SECONDS = 5, 1.0
_STEPS = 65
# Who launches finds nobody there.
_AT_REST = [METRICS.index(name) for name in ("gpu_utilization_ratio", "memory_used_bytes")]


@dataclass(slots=True)
class Job:
    """A job that a host pretends to run."""

    number: int
    launch: str
    sequence: int = 0
    step: int = 0


class Hosts:
    """All hosts. Orders come on one thread, reports and batches leave on another; a job belongs to its host's name."""

    def __init__(self, sender: Sender, seeds: dict[str, str], public_key: bytes) -> None:
        self._sender, self._public_key = sender, public_key
        self._keys = {name: Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed)) for name, seed in seeds.items()}
        self._names, self._jobs, self._known = list(seeds), dict[str, Job](), set[int]()
        self._signals = Signals(len(seeds) * GPUS_PER_HOST, 1)
        self._lock = threading.Lock()

    def take(self, body: Sequence[Sequence[bytes]], message: Message) -> None:
        """Obey an order or a cancel, as an agent does. `body` is that of Celery's protocol 2."""
        payload = body[0][0]
        task = message.headers["task"]
        said = envelope.read(payload)
        order = said.verify(task, self._public_key)
        with self._lock:
            if task == START_TASK:
                found = wire.unpack_order(order)
                if found.job not in self._known:  # one that was sent again starts nothing
                    self._known.add(found.job)
                    self._jobs[said.host] = Job(found.job, found.launch)
                    self._report(said.host, "starting")
            elif task == CANCEL_TASK and said.host in self._jobs:
                self._report(said.host, "cancelled")
                del self._jobs[said.host]
        message.ack()  # type: ignore[no-untyped-call]  # kombu leaves it so

    def tell(self, second: int) -> None:
        """Report the jobs, and what a fifth of the hosts has measured."""
        readings = self._signals.advance(1)
        readings[_AT_REST] = 0
        with self._lock:
            for name, job in self._jobs.items():
                job.step = min(_STEPS, job.step + 1)
                self._report(name, "running")
        for place, name in enumerate(self._names):
            if (second + place) % _BATCH_SECONDS == 0:
                gpus = slice(place * GPUS_PER_HOST, (place + 1) * GPUS_PER_HOST)
                at_ms, number = int(time.time() * 1000), second // _BATCH_SECONDS
                made = batch(name, f"{place + 1:032x}", number, [at_ms], in_units(readings[:, gpus]))
                self._send(name, INGEST_TASK, pack(made))

    def _report(self, name: str, state: str) -> None:
        job = self._jobs[name]
        job.sequence += 1
        stage = {"running": "measure" if job.step > 1 else "build"}.get(state, "")
        report = JobReport(
            job.number, job.launch, name, job.sequence, state, int(time.time() * 1000), stage=stage, step=job.step,
            total_steps=_STEPS,
        )  # fmt: skip
        self._send(name, REPORT_TASK, wire.pack(report), replaces="" if state == "cancelled" else f"job-{job.number}")

    def _send(self, name: str, task: str, body: bytes, *, replaces: str = "") -> None:
        self._sender.submit(task, envelope.seal(self._keys[name], task, name, body), replaces=replaces)


def _consumer(connection: Connection, names: list[str], take: Callable[..., None]) -> Consumer:
    queues = [Queue(host_queue(name), routing_key=host_queue(name)) for name in names]  # type: ignore[no-untyped-call]
    return Consumer(connection, queues, callbacks=[take], accept=["application/x-msgpack"])  # type: ignore[no-untyped-call]


@contextmanager
def answering(asked: dict[str, str], seeds: dict[str, str]) -> Iterator[Hosts]:
    """Yield the hosts, which take orders until the context ends."""
    app = Celery(broker=asked["broker_url"], fixups=[])
    app.conf.update(CELERY_OPTIONS)
    sender = Sender(app, lambda _, sealed: sealed)
    sender.start()
    hosts, is_over = Hosts(sender, seeds, bytes.fromhex(asked["public_key"])), threading.Event()

    def listen() -> None:
        with app.connection_for_read() as connection, _consumer(connection, list(seeds), hosts.take):
            while not is_over.is_set():
                try:
                    connection.drain_events(timeout=0.5)
                except TimeoutError:
                    continue

    listener = threading.Thread(target=listen, name="orders")
    listener.start()
    try:
        yield hosts
    finally:
        is_over.set()
        listener.join()
        sender.stop(patience=10.0)


def run() -> None:
    asked = json.loads(sys.stdin.readline())
    is_over = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        is_over.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    with answering(asked, asked["seeds"]) as hosts:
        second, began = 0, time.monotonic()
        while not is_over.wait(max(0.0, began + second * _REPORT_SECONDS - time.monotonic())):
            hosts.tell(second)
            second += 1


if __name__ == "__main__":
    run()
