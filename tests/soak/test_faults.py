"""Whatever dies, fills up or is cut off: what the hosts took is what the store holds, no more and no less.

All of them in one run under load, in an order that the seed draws; `make soak` runs it SOAK_TIMES times.
"""

import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis

from telemetry.agent.outbox import RESEND_SECONDS
from tests.process.traces import wait_until
from tests.servers import postgresql_server
from tests.servers import redis as redis_server
from tests.soak import faults
from tests.soak.faults import Site
from tests.soak.load import load, ranges_of_agent, stored
from tests.soak.relay import relay
from tests.stack import Stack, start_stack

TIMES = int(os.environ.get("SOAK_TIMES", "0"))
AWAY_SECONDS = float(os.environ.get("SOAK_AWAY_SECONDS", "8"))
DISK_MEGABYTES = 96
# The agent goes on, and nobody asks it to hand over: what a killed broker or worker had is sent again, at the latest after this.
RESENT_SECONDS = 1.25 * RESEND_SECONDS

pytestmark = pytest.mark.skipif(not TIMES, reason="it takes minutes: `make soak` runs it")

Fault = Callable[[Site, random.Random], None]
OF_PROCESSES: tuple[Fault, ...] = (faults.kill_ingest, faults.kill_web, faults.kill_agent, faults.cut_network)


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A disk of its own for the data directory, which a test may fill."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MEGABYTES}m", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


@contextmanager
def embedded(directory: Path, disk: Path) -> Iterator[tuple[Site, dict[str, str]]]:
    """Yield the product on SQLite with its own broker, and the settings with which hosts reach it through the relay."""
    (directory / "spools").mkdir()
    (disk / "simulation").symlink_to(directory / "spools")  # hosts have disks of their own
    with start_stack(directory, STEPWATT_DATA_DIR=str(disk)) as stack:
        asked = "from django.conf import settings; print(settings.EMBEDDED_BROKER_PASSWORD)"
        password = stack.manage("shell", "--no-imports", "-c", asked).stdout.strip()
        port = int((disk / "broker" / "port").read_text())
        with relay(port) as network, Redis("127.0.0.1", port, password=password) as broker:
            site = Site(stack, network, broker, ballast=disk / "ballast", away_seconds=AWAY_SECONDS)
            yield site, {"STEPWATT_BROKER_URL": f"redis://:{password}@127.0.0.1:{network.port}/0"}


@contextmanager
def with_servers(directory: Path) -> Iterator[tuple[Site, dict[str, str]]]:
    """Yield the product on PostgreSQL and Redis."""
    with postgresql_server() as database, redis_server(directory) as broker_url:
        settings = {"STEPWATT_DATABASE_URL": database.url, "STEPWATT_BROKER_URL": broker_url}
        port = int(broker_url.rpartition(":")[2].partition("/")[0])
        with (
            start_stack(directory, **settings) as stack,
            relay(port) as network,
            Redis.from_url(broker_url) as broker,
        ):
            site = Site(stack, network, broker, database=database.kill, away_seconds=AWAY_SECONDS)
            yield site, {"STEPWATT_BROKER_URL": broker_url.replace(f":{port}/", f":{network.port}/")}


def run(site: Site, settings: dict[str, str], directory: Path, chosen: Sequence[Fault], seed: int) -> None:
    """Inflict all of them under load, and compare."""
    rng = random.Random(seed)
    with load(site.stack, directory, settings) as hosts:
        wait_until(lambda: any(_numbers(stored(site.stack)).values()), 60, "the first batches")
        for fault in rng.sample(chosen, len(chosen)):
            fault(site, rng)
            time.sleep(2)
        took = hosts.stop()
    assert took
    wait_until(lambda: _numbers(stored(site.stack)) == _numbers(took), 60, "what the hosts took to be stored")
    found = stored(site.stack)
    for host, expected in took.items():
        assert found[host] | expected == found[host], f"seed {seed}"
        assert found[host]["accepted"] == expected["batches"], f"seed {seed}"
    wait_until(lambda: _is_whole(ranges_of_agent(site.stack)), RESENT_SECONDS, f"the agent's own batches, seed {seed}")


def _is_whole(epochs: list[list[list[int]]]) -> bool:
    return bool(epochs) and all(len(ranges) == 1 and ranges[0][0] == 0 for ranges in epochs)


def _numbers(hosts: dict[str, dict[str, object]]) -> dict[str, object]:
    return {name: host["batches"] for name, host in hosts.items()}


def _log_of(stack: Stack) -> str:
    return stack.log.lower()


@pytest.mark.parametrize("seed", range(max(TIMES, 1)))
def test_nothing_is_lost_or_doubled_on_sqlite(small_disk, tmp_path, seed):
    chosen = (*OF_PROCESSES, faults.kill_broker, faults.fill_disk, faults.fill_broker)
    with embedded(tmp_path, small_disk) as (site, settings):
        run(site, settings, tmp_path, chosen, seed)

        assert "disk is full" in _log_of(site.stack)
        assert "sigkill" in _log_of(site.stack)


@pytest.mark.parametrize("seed", range(max(TIMES, 1)))
def test_nothing_is_lost_or_doubled_on_postgresql(tmp_path, seed):
    chosen = (*OF_PROCESSES, faults.kill_database, faults.fill_broker)
    with with_servers(tmp_path) as (site, settings):
        run(site, settings, tmp_path, chosen, seed)

        assert "sigkill" in _log_of(site.stack)
