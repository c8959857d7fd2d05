"""The sender against a real broker that goes away and comes back, and the step listener."""

import base64
import json
import subprocess
import threading
import time

import msgpack
import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker

from fleet.up.broker import server_program
from telemetry.agent.names import Parcel
from telemetry.agent.outbox import Outbox
from telemetry.agent.sender import QUEUE_BYTES, Sender
from telemetry.agent.spool import Spool
from telemetry.message.wire import INGEST_TASK
from tests.ports import free_port
from tests.process.traces import wait_until


def plain(task: str, body: bytes) -> bytes:
    return body


@pytest.fixture
def app():
    app = Celery("test", broker="memory://", set_as_current=False)
    app.conf.task_serializer = "json"
    return app


def test_submit_returns_at_once_while_the_broker_is_away():
    away = Celery("test", broker=f"redis://127.0.0.1:{free_port()}/0", set_as_current=False)
    sender = Sender(away, plain)
    sender.start()

    begun = time.monotonic()
    for _ in range(100):
        sender.submit(INGEST_TASK, b"x")

    assert time.monotonic() - begun < 10  # one that waited for the broker would take a second or more, each time
    assert len(sender._queue) == 100
    sender.stop(patience=2)


def test_a_full_queue_drops_the_oldest_first_and_counts_it(app):
    sender = Sender(app, plain)
    for number in range(5):
        sender.submit("training.ingest_report", bytes([number]) * (QUEUE_BYTES // 3))

    assert [message.payload[0] for message in sender._queue] == [2, 3, 4]
    assert sender.n_dropped == 2


def test_a_newer_report_takes_the_place_of_one_that_waits(app):
    sender = Sender(app, plain)
    sender.submit(INGEST_TASK, b"batch")
    for _ in range(3):
        sender.submit("training.ingest_report", bytes(1000), replaces="job-1")

    assert [message.payload for message in sender._queue] == [b"batch", bytes(1000)]


def test_everything_queued_is_sent_once_the_broker_is_back(tmp_path):
    port = free_port()
    app = Celery("test", broker=f"redis://127.0.0.1:{port}/0", set_as_current=False)
    app.conf.update(
        task_serializer="msgpack",
        accept_content=["msgpack"],
        broker_transport_options={"socket_connect_timeout": 1},
    )
    sender, sent = Sender(app, plain), []
    sender.start()
    for number in range(5):
        sender.submit(INGEST_TASK, b"x", on_sent=lambda n=number: sent.append(n))
    time.sleep(1)
    assert sent == []

    broker = subprocess.Popen(
        [server_program(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: sent == [0, 1, 2, 3, 4], 60)
        sender.stop(patience=60)
    finally:
        broker.terminate()
        broker.wait()


@pytest.fixture
def memory():
    """Return an app whose broker lives in this process, and the messages of its queue `telemetry` as they lie there."""
    app = Celery("memory", broker="memory://", set_as_current=False)
    app.conf.update(task_serializer="msgpack", accept_content=["msgpack"])

    def waiting() -> list[dict]:
        with app.connection_for_read() as connection:
            queue = connection.default_channel._queue_for("telemetry")
            return [queue.get_nowait() for _ in range(queue.qsize())]

    waiting()  # the in-process broker is one for all
    return app, waiting


def test_a_message_is_sealed_by_the_key_of_the_moment_when_it_is_sent(memory):
    app, waiting = memory
    keys = ["old"]
    sender = Sender(app, lambda task, body: f"{keys[-1]} {task} {body.decode()}".encode())
    sender.submit(INGEST_TASK, b"x")
    keys.append("new")

    sender.start()
    sender.stop(patience=60)

    ((arguments, _, _),) = map(content, waiting())
    assert arguments == [f"new {INGEST_TASK} x".encode()]


def test_a_message_has_the_headers_that_a_worker_asks_for_and_no_others(memory):
    app, waiting = memory
    sender = Sender(app, plain)
    sender.submit(INGEST_TASK, b"x")

    sender.start()
    sender.stop(patience=60)

    (message,) = waiting()
    assert set(message["headers"]) == {"lang", "task", "id"}
    assert len(json.dumps(message)) < 600  # with an empty body: 1,000 by Celery's own send_task


def test_a_worker_takes_what_it_sends(memory):
    app, _ = memory
    taken = []

    @app.task(name="tests.take")  # the name of a real task would be the real one, wherever a test has loaded it
    def take(payload):
        taken.append(payload)

    sender = Sender(app, plain)
    sender.submit("tests.take", b"x")

    sender.start()
    with start_worker(app, pool="solo", perform_ping_check=False, queues=["telemetry"], loglevel="ERROR"):
        wait_until(lambda: taken, 60, "the message")
    sender.stop(patience=60)

    assert taken == [b"x"]


class Spooled:
    """A sender with a spool in this directory."""

    def __init__(self, app, directory):
        self.spool = Spool(directory)
        self.names = self.spool.names("a", "0" * 32)
        self.sender = Sender(app, plain, Outbox(self.spool))

    def submit(self, *bodies):
        for body in bodies:
            self.sender.submit_batch(Parcel("a", *self.names.claim(), body))

    def stop(self):
        self.sender.stop(patience=60)
        self.spool.close()


def test_a_batch_is_sent_and_leaves_the_spool_when_it_is_acknowledged(memory, tmp_path):
    app, waiting = memory
    line = Spooled(app, tmp_path)
    line.sender.start()
    line.submit(b"one", b"two")
    sent = []
    wait_until(lambda: sent.extend(waiting()) or len(sent) == 2, 60, "the batches")
    assert line.spool.n_batches == 2

    line.sender.acknowledge(line.names.epoch, [(0, 0)])
    line.submit(b"three")

    wait_until(lambda: len(waiting()) == 1, 60, "the third")
    assert [each.parcel.body for each in line.spool.after(0, 9)] == [b"two", b"three"]
    line.stop()


def test_batches_are_kept_while_the_broker_is_away_and_sent_by_the_next_start(memory, tmp_path):
    app, waiting = memory
    away = Celery("test", broker=f"redis://127.0.0.1:{free_port()}/0", set_as_current=False)
    line = Spooled(away, tmp_path)
    line.sender.start()
    line.submit(b"one", b"two")
    wait_until(lambda: line.spool.n_batches == 2, 60, "the batches in the spool")
    line.stop()

    again = Spooled(app, tmp_path)
    again.sender.start()
    sent = []
    wait_until(lambda: sent.extend(waiting()) or len(sent) == 2, 60, "the batches")
    again.stop()

    assert [content(message)[0] for message in sent] == [[b"one"], [b"two"]]


def test_what_was_handed_in_last_is_in_the_spool_at_the_end_though_the_sender_hangs(tmp_path):
    line = Spooled(Celery("test", broker="memory://", set_as_current=False), tmp_path)
    line.sender._thread = threading.Thread(target=time.sleep, args=(1,), daemon=True)
    line.sender.start()
    line.submit(b"one")

    line.sender.stop(patience=0.1)

    assert [each.parcel.body for each in line.spool.after(0, 9)] == [b"one"]


def content(message: dict) -> list:
    return msgpack.unpackb(base64.b64decode(message["body"]))
