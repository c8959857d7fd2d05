"""A server on PostgreSQL: several ingest workers, partitions, retention, the pool; and one clock of two servers."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest
from redis import Redis

from tests.process.traces import wait_until
from tests.servers import postgresql, redis
from tests.stack import ROOT, Stack, start_stack

WORKERS = ("ingest@", "ingest-2@", "worker@", "upkeep@", " beat ")
# Prints the partitions that it has made, those of ten days ago and the days after it.
MAKES_OLD_DAYS = """
import time
from telemetry.store import partitions
before = set(partitions.partitions(partitions.CHUNKS))
partitions.keep(int(time.time() * 1000) - 10 * partitions.DAY_MS)
print(*(each.name for each in partitions.partitions(partitions.CHUNKS) if each not in before))
"""


@pytest.fixture(scope="module")
def urls(tmp_path_factory) -> Iterator[dict[str, str]]:
    directory = tmp_path_factory.mktemp("servers")
    with postgresql() as database_url, redis(directory) as broker_url:
        yield {"STEPWATT_DATABASE_URL": database_url, "STEPWATT_BROKER_URL": broker_url}


@pytest.fixture(scope="module")
def stack(urls, tmp_path_factory) -> Iterator[Stack]:
    with start_stack(tmp_path_factory.mktemp("on-postgresql"), **urls, STEPWATT_INGEST_WORKERS="2") as running:
        yield running


@pytest.fixture
def database(urls) -> Iterator[psycopg.Connection]:
    with psycopg.connect(urls["STEPWATT_DATABASE_URL"], autocommit=True) as session:
        yield session


def asked(database: psycopg.Connection, question: str) -> list:
    return [row[0] for row in database.execute(question)]


def batches_in(database: psycopg.Connection) -> list[str]:
    return asked(database, "SELECT DISTINCT tableoid::regclass::text FROM telemetry_storedbatch")


def shell(stack: Stack, program: str) -> str:
    done = stack.manage("shell", "--no-imports", "-c", program)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_batches_go_into_the_partition_of_their_day(stack, database):
    wait_until(lambda: batches_in(database), 180, "the first batch")

    assert not any(name.endswith("_rest") for name in batches_in(database))


def test_both_ingest_workers_take_batches(stack, database):
    """Of two workers one is stopped: the other goes on alone, whichever it is."""
    newest = "SELECT coalesce(max(sequence), 0) FROM telemetry_storedbatch"
    for words in ("ingest@", "ingest-2@"):
        with suspended(stack, database, words):
            before = asked(database, newest)
            wait_until(lambda before=before: asked(database, newest) > before, 180, f"a batch without {words}")


@contextmanager
def suspended(stack: Stack, database: psycopg.Connection, *names: str) -> Iterator[None]:
    """Stop processes, none of them within a transaction, whose locks everybody else would wait for."""
    processes = [stack.child(words) for words in names]
    try:
        wait_until(
            lambda: all(_is_stopped_outside(each, database) for each in processes), 180, f"{names} to stand still"
        )
        yield
    finally:
        for each in processes:
            each.resume()


def _is_stopped_outside(process: psutil.Process, database: psycopg.Connection) -> bool:
    process.suspend()
    time.sleep(0.1)  # for what it had sent before to be begun
    ports = [each.laddr.port for each in process.net_connections()]
    within = "SELECT count(*) FROM pg_stat_activity WHERE client_port = ANY(%s) AND xact_start IS NOT NULL"
    if database.execute(within, [ports]).fetchone() == (0,):
        return True
    process.resume()
    return False


def test_retention_drops_a_day_that_is_too_old(stack, database):
    oldest, *_ = shell(stack, MAKES_OLD_DAYS).split()

    shell(stack, "from telemetry.tasks import retire; retire.delay()")

    days = "SELECT relid::regclass::text FROM pg_partition_tree('telemetry_chunk') WHERE isleaf"
    wait_until(lambda: oldest not in asked(database, days), 240, "the drop")


def test_the_web_uses_its_connections_again(stack, database):
    sessions = "SELECT sessions FROM pg_stat_database WHERE datname = current_database()"
    client = stack.signed_in()
    with suspended(stack, database, *WORKERS):  # what they open would count, too
        before = asked(database, sessions)[0]

        for _ in range(100):
            client.get("/api/v1/hosts").raise_for_status()

        opened = asked(database, sessions)[0] - before
    client.close()
    assert opened < 50  # without the pool it were 100


def test_the_supervisor_has_one_thread(stack):
    """Whoever starts processes with more than one may start them with a lock that nobody gives back."""
    assert psutil.Process(stack.pid).num_threads() == 1


@contextmanager
def clock(directory: Path, urls: dict[str, str]) -> Iterator[tuple[subprocess.Popen, Path]]:
    """A server's clock alone, as `make up` starts it; yields it and its log."""
    directory.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STEPWATT_")}
    environment |= {**urls, "STEPWATT_DATA_DIR": str(directory), "DJANGO_SETTINGS_MODULE": "fleet.settings"}
    command = ["-m", "celery", "--quiet", "--app", "fleet.beat", "beat", "--scheduler", "fleet.beat:Scheduler"]
    command += ["--schedule", str(directory / "beat-schedule")]
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        yield process, log
    finally:
        process.kill()
        process.wait()


def test_of_two_clocks_one_runs_and_the_other_takes_over(tmp_path, tmp_path_factory):
    directory = tmp_path_factory.mktemp("clocks")
    with postgresql() as database_url, redis(directory) as broker_url, Redis.from_url(broker_url) as broker:
        urls = {"STEPWATT_DATABASE_URL": database_url, "STEPWATT_BROKER_URL": broker_url}
        with clock(tmp_path / "a", urls) as (first, _):
            wait_until(lambda: broker.llen("default"), 180, "the first clock's tasks")
            with clock(tmp_path / "b", urls) as (_, log):
                wait_until(lambda: "another server's clock runs" in log.read_text(), 180, "the second one's waiting")

                first.send_signal(signal.SIGKILL)

                wait_until(lambda: "this server's clock runs now" in log.read_text(), 180, "the second one's turn")
                sent = broker.llen("default")
                wait_until(lambda: broker.llen("default") > sent, 180, "its tasks")
