"""The agent as a process of its own: it samples from its start, whether the broker is reached or not."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import msgpack
import psutil
from redis import Redis

from fleet.broker import server_program
from telemetry import envelope, received, wire
from telemetry.agent.membership import enrol_here
from tests.process.traces import wait_until
from tests.stack import ROOT, free_port


@contextmanager
def running(command, **options):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def agent(directory, port, **settings):
    """Run an agent that has joined a server which is not there."""
    enrol_here(directory / "agent", "alone", "redis://127.0.0.1:1/0", b"\0" * 32)
    environment = os.environ | {
        "STEPWATT_DATA_DIR": str(directory),
        "STEPWATT_BROKER_URL": f"redis://127.0.0.1:{port}/0",
        "STEPWATT_BATCH_SECONDS": "1",
        **settings,
    }
    return running([sys.executable, "-m", "telemetry.agent", "run"], cwd=ROOT, env=environment)


def broker(directory, port):
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory)]
    return running([str(server_program()), *options])


def first_batch(port, place=-1) -> wire.Batch:
    """Return the oldest batch that waits in the broker; at place 0, the newest."""
    raw = Redis(port=port).lindex("telemetry", place)
    message = msgpack.unpackb(base64.b64decode(json.loads(raw)["body"]))
    return received.unpack(envelope.read(message[0][0]).body)


def test_what_was_sampled_before_the_broker_was_there_is_sent(tmp_path):
    port = free_port()
    with agent(tmp_path, port):
        wait_until((tmp_path / "agent" / "steps.sock").exists, 10, "the step socket")
        time.sleep(4)  # for as long as this the broker is away
        broker_started_ms = time.time() * 1000
        with broker(tmp_path, port):
            wait_until(lambda: Redis(port=port).llen("telemetry") > 0, 20, "the first batch")

            assert first_batch(port).times_ms[0] < broker_started_ms - 2000


def test_it_ends_on_sigterm_while_the_broker_is_away(tmp_path):
    with agent(tmp_path, free_port()) as process:
        wait_until((tmp_path / "agent" / "steps.sock").exists, 10, "the step socket")

        process.send_signal(signal.SIGTERM)

        process.wait(timeout=15)
        assert not (tmp_path / "agent" / "steps.sock").exists()


def test_two_agents_do_not_share_a_directory(tmp_path):
    with agent(tmp_path, port := free_port()):
        wait_until((tmp_path / "agent" / "steps.sock").exists, 10, "the step socket")
        with agent(tmp_path, port) as second:
            assert second.wait(timeout=10) == 1


def test_it_maps_neither_torch_nor_numpy_while_it_runs(tmp_path):
    with agent(tmp_path, free_port()) as process:
        wait_until((tmp_path / "agent" / "steps.sock").exists, 10, "the step socket")

        mapped = {mapped.path for mapped in psutil.Process(process.pid).memory_maps()}

        assert not any("torch" in path or "numpy" in path for path in mapped)
