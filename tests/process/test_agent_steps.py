"""A training loop beside a real agent: its steps come along with the batches, whatever becomes of the agent meanwhile."""

import base64
import json
import os
import pwd
import signal
import subprocess
import sys
from contextlib import contextmanager

import msgpack
import pytest
from redis import Redis

from telemetry.decoding import received
from telemetry.message import envelope, wire
from tests.ports import free_port
from tests.process.test_agent_alone import agent, broker
from tests.process.traces import wait_until
from tests.stack import ROOT
from training.steps import blocks as step_blocks

LOOP = """
import sys, time
import stepwatt
run = stepwatt.run("llm", launch="l1", owner="ada")
n_steps = 0
while not sys.stdin.closed and n_steps < 100_000:
    with run.step():
        time.sleep(0.01)
    n_steps += 1
    if n_steps % 10 == 0:
        print(n_steps, run.dropped, flush=True)
"""


@contextmanager
def loop(directory):
    env = os.environ | {
        "PYTHONPATH": str(ROOT / "training" / "client"),
        "STEPWATT_SOCKET": str(directory / "agent" / "steps.sock"),
    }
    process = subprocess.Popen([sys.executable, "-c", LOOP], env=env, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def blocks(port):
    """Return the blocks of steps in the batches that came to the broker, each batch once, as the server takes it."""
    found = {}
    for raw in Redis(port=port).lrange("telemetry", 0, -1):
        message = json.loads(raw)
        if message["headers"]["task"] == wire.INGEST_TASK:
            body = envelope.read(msgpack.unpackb(base64.b64decode(message["body"]))[0][0]).body
            ((batch, _),) = received.read_last([body])
            found[batch.epoch, batch.sequence] = batch.cargo.get("steps", ())
    return [step_blocks.read(piece) for _, pieces in sorted(found.items()) for piece in pieces]


def numbers(port):
    return [number for block in blocks(port) for number in block.steps.number.tolist()]


def lost(port):
    """Return how many steps came to no server, of those that the client did not drop itself."""
    found = blocks(port)
    newest = max(found, key=lambda block: block.newest_sequence)
    return newest.newest_sequence + 1 - newest.n_dropped - sum(len(block.steps) for block in found)


def socket_of(directory):
    return directory / "agent" / "steps.sock"


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_loop_goes_on_with_the_agent_that_comes_after(tmp_path, end):
    port = free_port()
    with broker(tmp_path, port), agent(tmp_path, port) as first:
        wait_until(socket_of(tmp_path).exists, 180, "the step socket")
        with loop(tmp_path) as training:
            wait_until(lambda: len(numbers(port)) > 100, 180, "the first steps")
            first.send_signal(end)
            first.wait(timeout=60)
            before = numbers(port)
            with agent(tmp_path, port):
                wait_until(lambda: max(numbers(port)) > max(before) + 600, 240, "steps by way of the second agent")
                training.kill()
                training.wait()
                # Nothing that came to an agent that ends in order is lost; of a killed one, what it had not put on its disk yet:
                # a second's, and some more where the machine is busy.
                most = 0 if end is signal.SIGTERM else 500
                wait_until(lambda: 0 <= lost(port) <= most, 240, "all that can come")
                assert len(numbers(port)) == len(set(numbers(port))), "a step came twice"


def test_who_sends_is_known_by_the_kernels_word(tmp_path):
    port = free_port()
    with broker(tmp_path, port), agent(tmp_path, port):
        wait_until(socket_of(tmp_path).exists, 180, "the step socket")
        with loop(tmp_path) as training:
            wait_until(lambda: numbers(port), 180, "a step")
            teller = blocks(port)[0].teller
            assert (teller.pid, teller.owner, teller.run) == (training.pid, "ada", "llm")
            assert teller.user == pwd.getpwuid(os.geteuid()).pw_name
