"""Exactly once, through a real Redis: a worker that is killed while it stores loses nothing, and nothing is stored twice."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from celery import Celery
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from redis import Redis

from telemetry.broker.transport import CELERY_OPTIONS
from telemetry.message.envelope import seal
from telemetry.message.wire import INGEST_QUEUE, INGEST_TASK
from tests.process.traces import wait_until
from tests.servers import redis
from tests.telemetry.batches import payload

ROOT = Path(__file__).parents[2]
KEY = Ed25519PrivateKey.generate()
N_BATCHES = 5


def test_what_a_killed_worker_had_taken_is_stored_once_by_the_next(tmp_path):
    with redis(tmp_path) as url:
        environment = os.environ | {
            "STEPWATT_BROKER_URL": url,
            "STEPWATT_DATA_DIR": str(tmp_path / "var"),
            "DJANGO_SETTINGS_MODULE": "fleet.settings",
        }
        make_host(environment)
        publish(url)
        assert worker(environment, "dies").wait(timeout=120) == -signal.SIGKILL
        assert unacknowledged(url) > 0
        assert unacknowledged(url) + waiting(url) == N_BATCHES

        follower = worker(environment, "lives")
        try:
            wait_until(lambda: stored(tmp_path) == N_BATCHES, 240, "the batches of the killed worker")
            publish(url)  # an agent that heard nothing sends again
            wait_until(lambda: waiting(url) == unacknowledged(url) == 0, 180, "the second time")
            assert stored(tmp_path) == N_BATCHES
        finally:
            follower.terminate()
            follower.wait(timeout=60)


def make_host(environment):
    subprocess.run([sys.executable, "manage.py", "migrate", "--verbosity", "0"], check=True, cwd=ROOT, env=environment)
    row = (
        f"Host.objects.create(name='gpu-a01', public_key=bytes.fromhex('{KEY.public_key().public_bytes_raw().hex()}'))"
    )
    code = f"import django; django.setup(); from fleet.models import Host; {row}"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=environment)


def publish(url):
    app = Celery(broker=url, set_as_current=False, fixups=[])
    app.conf.update(CELERY_OPTIONS)
    at_ms = int(time.time() * 1000) - 60_000
    for n in range(N_BATCHES):
        body = payload([at_ms // 60_000 * 60_000 + n * 1000], {"power_draw_watts": [n]}, sequence=n)
        app.send_task(INGEST_TASK, [seal(KEY, INGEST_TASK, "gpu-a01", body)], queue=INGEST_QUEUE)
    app.close()


def worker(environment, way):
    return subprocess.Popen([sys.executable, "-m", "tests.process.redelivering", way], cwd=ROOT, env=environment)


def waiting(url):
    with Redis.from_url(url) as client:
        return client.llen(INGEST_QUEUE)


def unacknowledged(url):
    with Redis.from_url(url) as client:
        return client.hlen("unacked")


def stored(directory):
    with closing(sqlite3.connect(directory / "var" / "stepwatt.sqlite3")) as database:
        return database.execute("SELECT count(*) FROM telemetry_storedbatch").fetchone()[0]
