"""The sender against a real broker that goes away and comes back, and the step listener."""

import json
import socket
import subprocess
import time

import pytest
from celery import Celery

from fleet.broker import server_program
from telemetry.agent.sender import QUEUE_BYTES, Sender
from telemetry.agent.steps import MAX_FRAME_BYTES, StepListener
from telemetry.wire import INGEST_TASK
from tests.telemetry.test_sampler import wait_for


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def app():
    app = Celery("test", broker="memory://", set_as_current=False)
    app.conf.task_serializer = "json"
    return app


def test_submit_returns_at_once_while_the_broker_is_away():
    away = Celery("test", broker=f"redis://127.0.0.1:{free_port()}/0", set_as_current=False)
    sender = Sender(away)
    sender.start()

    begun = time.monotonic()
    for _ in range(100):
        sender.submit(INGEST_TASK, b"x")

    assert time.monotonic() - begun < 0.1
    assert sender.cost()["queue_depth"] == 100
    sender.stop(patience=2)


def test_a_full_queue_drops_the_oldest_telemetry_first_and_counts_it(app):
    sender = Sender(app)
    sender.submit("training.ingest_report", b"keep me")
    for _ in range(4):
        sender.submit(INGEST_TASK, bytes(QUEUE_BYTES // 3))

    assert sender.cost()["batches_dropped_total"] == 2
    assert sender.cost()["queue_depth"] == 3


def test_a_newer_report_takes_the_place_of_one_that_waits(app):
    sender = Sender(app)
    sender.submit(INGEST_TASK, b"batch")
    for _ in range(3):
        sender.submit("training.ingest_report", bytes(1000), replaces="job-1")

    assert sender.cost()["queue_depth"] == 2


def test_everything_queued_is_sent_once_the_broker_is_back(tmp_path):
    port = free_port()
    app = Celery("test", broker=f"redis://127.0.0.1:{port}/0", set_as_current=False)
    app.conf.update(
        task_serializer="msgpack",
        accept_content=["msgpack"],
        broker_transport_options={"socket_connect_timeout": 1},
    )
    sender, sent = Sender(app), []
    sender.start()
    for number in range(5):
        sender.submit(INGEST_TASK, b"x", on_sent=lambda n=number: sent.append(n))
    wait_for(lambda: sender.cost()["batches_sent_total"] == 0)

    broker = subprocess.Popen(
        [server_program(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: sent == [0, 1, 2, 3, 4], seconds=20)
        sender.stop(patience=5)
    finally:
        broker.terminate()
        broker.wait()


@pytest.fixture
def listener(tmp_path):
    listener, received = StepListener(tmp_path / "steps.sock"), []
    listener.register(received.extend)
    listener.start()
    yield listener, received, tmp_path / "steps.sock"
    listener.stop()


def test_the_step_listener_hands_on_frames_and_refuses_what_is_none(listener):
    listening, received, path = listener
    loop = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    for frame in (b"not json", b"[1]", bytes(MAX_FRAME_BYTES + 1), json.dumps({"step": 1}).encode()):
        loop.sendto(frame, str(path))

    wait_for(lambda: received)
    assert received == [{"step": 1}]
    assert listening.refused == 3


def test_a_leftover_socket_of_a_killed_agent_is_replaced(tmp_path):
    stale = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    stale.bind(str(tmp_path / "steps.sock"))
    stale.close()

    listener = StepListener(tmp_path / "steps.sock")
    listener.start()
    listener.stop()

    assert not (tmp_path / "steps.sock").exists()
