"""The agent as a process of its own: it samples from its start, whether the broker is reached or not."""

import base64
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager

import msgpack
import psutil
from celery import Celery
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from redis import Redis

from fleet.up.broker import server_program
from telemetry.agent.clock_offset import FRESH_SECONDS
from telemetry.agent.membership import enrol_here
from telemetry.broker.transport import CELERY_OPTIONS
from telemetry.decoding import received
from telemetry.message import acknowledgement, envelope, wire
from telemetry.message.acknowledgement import ACKNOWLEDGE_TASK, Acknowledgement
from telemetry.message.envelope import seal_order
from tests.ports import free_port
from tests.process.traces import wait_until
from tests.servers import listens
from tests.stack import ROOT


@contextmanager
def running(command, **options):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


SERVER = Ed25519PrivateKey.from_private_bytes(bytes(32))


def agent(directory, port, prefix=(), **settings):
    """Run an agent that has joined a server which is not there; `prefix` is what its command begins with."""
    enrol_here(directory / "agent", "alone", "redis://127.0.0.1:1/0", SERVER.public_key().public_bytes_raw())
    environment = os.environ | {
        "STEPWATT_DATA_DIR": str(directory),
        "STEPWATT_BROKER_URL": f"redis://127.0.0.1:{port}/0",
        "STEPWATT_BATCH_SECONDS": "1",
        **settings,
    }
    return running([*prefix, sys.executable, "-m", "telemetry.agent", "run"], cwd=ROOT, env=environment)


@contextmanager
def broker(directory, port):
    """Run a broker, which takes connections from the beginning of the block on."""
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory)]
    with running([str(server_program()), *options]) as process:
        wait_until(lambda: listens("127.0.0.1", port), 180, "the broker")
        yield process


def test_what_was_sampled_before_the_broker_was_there_is_sent(tmp_path):
    port = free_port()
    with agent(tmp_path, port):
        wait_until(lambda: spooled(tmp_path) >= 3, 180, "batches that wait")
        broker_started_ms = time.time() * 1000
        with broker(tmp_path, port):
            wait_until(lambda: sum(at < broker_started_ms for _, _, at in batches(port)) >= 3, 180, "what waited")


def taken(port):
    """Return the batches that wait in the broker, in the order in which they came."""
    found = []
    for raw in reversed(Redis(port=port).lrange("telemetry", 0, -1)):
        message = json.loads(raw)
        if message["headers"]["task"] == wire.INGEST_TASK:
            body = envelope.read(msgpack.unpackb(base64.b64decode(message["body"]))[0][0]).body
            found.append(received.unpack(body))
    return found


def batches(port):
    """Return (epoch, sequence, first time) of each."""
    return [(batch.epoch, batch.sequence, batch.times_ms[0]) for batch in taken(port)]


def spooled(directory):
    """Return how many batches the agent has in its spool."""
    path = directory / "agent" / "spool.db"
    if not path.exists():
        return 0
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as spool:
        try:
            return spool.execute("SELECT count(*) FROM batches").fetchone()[0]
        except sqlite3.OperationalError:  # being made
            return 0


def oldest_spooled(directory):
    """Return the lowest sequence in the agent's spool, which numbers its batches, -1 while it is empty."""
    with closing(sqlite3.connect(f"file:{directory / 'agent' / 'spool.db'}?mode=ro", uri=True)) as spool:
        return spool.execute("SELECT coalesce(min(sequence), -1) FROM batches").fetchone()[0]


def test_batches_of_an_agent_that_was_killed_are_sent_by_the_next_one_and_no_name_is_used_twice(tmp_path):
    port = free_port()
    with agent(tmp_path, port) as killed:
        wait_until(lambda: spooled(tmp_path) >= 3, 180, "three batches in the spool")
        killed.kill()
        killed.wait()
    kept, killed_ms = spooled(tmp_path), time.time() * 1000

    with broker(tmp_path, port), agent(tmp_path, port):
        wait_until(lambda: sum(at < killed_ms for _, _, at in batches(port)) >= kept, 180, "what waited in the spool")
        wait_until(lambda: sum(at > killed_ms for _, _, at in batches(port)) >= 2, 180, "what it samples now")
        found = set(batches(port))  # what is not acknowledged is sent again after a while

    assert len({epoch for epoch, _, _ in found}) == 1
    assert sorted(sequence for _, sequence, _ in found) == list(range(len(found)))


def acknowledge(port, epoch, last):
    """Say as the server does that the epoch's batches up to `last` are stored."""
    now_ms = int(time.time() * 1000)
    told = acknowledgement.pack(Acknowledgement(epoch, [(0, last)], now_ms, now_ms, now_ms))
    app = Celery(broker=f"redis://127.0.0.1:{port}/0", set_as_current=False, fixups=[])
    app.conf.update(CELERY_OPTIONS)
    order = seal_order(SERVER, ACKNOWLEDGE_TASK, "alone", told, now_ms + 60_000)
    app.send_task(ACKNOWLEDGE_TASK, [order], queue="host.alone", argsrepr="")


def test_acknowledged_batches_leave_the_spool_and_the_clocks_are_compared(tmp_path):
    port = free_port()
    with broker(tmp_path, port), agent(tmp_path, port):
        wait_until(lambda: len(batches(port)) >= 3, 180, "three batches")
        assert spooled(tmp_path) >= 3
        epoch, last, _ = max(batches(port))
        acknowledge(port, epoch, last)

        wait_until(lambda: oldest_spooled(tmp_path) > last, 180, "the spool to let go of them")
        wait_until(lambda: offsets(port), 180, "the clock's offset")
        # Half of the acknowledgement's own way, of up to 10 s: what was longer on its way tells nothing.
        assert abs(offsets(port)[-1]) < FRESH_SECONDS / 2


def offsets(port):
    """Return the clock offsets that the agent told."""
    found = [batch.columns.get("host_clock_offset_seconds", []) for batch in taken(port)]
    return [value for by_device in found for column in by_device for value in column if value is not None]


def test_a_damaged_spool_is_put_aside_and_the_agent_goes_on(tmp_path):
    port = free_port()
    (tmp_path / "agent").mkdir(mode=0o700)
    (tmp_path / "agent" / "spool.db").write_bytes(b"what a broken disk left" * 999)

    with broker(tmp_path, port), agent(tmp_path, port):
        wait_until(lambda: batches(port), 180, "the first batch")

    assert (tmp_path / "agent" / "spool.db.damaged").exists()


def test_it_ends_on_sigterm_while_the_broker_is_away(tmp_path):
    with agent(tmp_path, free_port()) as process:
        wait_until((tmp_path / "agent" / "steps.sock").exists, 180, "the step socket")

        process.send_signal(signal.SIGTERM)

        process.wait(timeout=60)
        assert not (tmp_path / "agent" / "steps.sock").exists()


def test_two_agents_do_not_share_a_directory(tmp_path):
    with agent(tmp_path, port := free_port()):
        wait_until((tmp_path / "agent" / "steps.sock").exists, 180, "the step socket")
        with agent(tmp_path, port) as second:
            assert second.wait(timeout=60) == 1


def test_it_maps_neither_torch_nor_numpy_while_it_runs(tmp_path):
    with agent(tmp_path, free_port()) as process:
        wait_until((tmp_path / "agent" / "steps.sock").exists, 180, "the step socket")

        mapped = {mapped.path for mapped in psutil.Process(process.pid).memory_maps()}

        packages = {path.partition("/site-packages/")[2].partition("/")[0] for path in mapped}
        assert "zstandard" in packages
        assert not packages & {"torch", "numpy"}
