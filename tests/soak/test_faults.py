"""Whatever dies, fills up or is cut off: what the hosts took is what the store holds, no more and no less.

All of them in one run under load, in an order that the seed draws; `make soak` runs it SOAK_TIMES times.
Meanwhile the network to some other hosts is cut for minutes.
"""

import os
import random
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from redis import Redis

from tests.process.traces import wait_until
from tests.servers import postgresql_server, redis_server
from tests.soak import faults
from tests.soak.faults import Site
from tests.soak.load import load, ranges_of_agent, stored
from tests.soak.relay import relay, through
from tests.stack import start_stack

TIMES = int(os.environ.get("SOAK_TIMES", "1"))
AWAY_SECONDS = float(os.environ.get("SOAK_AWAY_SECONDS", "4"))  # the disk or the broker is full, the network is cut
CUT_SECONDS = float(os.environ.get("SOAK_CUT_SECONDS", "120"))  # the network to the far hosts is
N_HOSTS, N_FAR = 5, 2
DISK_MEGABYTES, IS_ROOT = 96, os.geteuid() == 0
STORED_SECONDS = 240  # what a killed broker or worker had is sent again within a minute or two, where nothing else runs
LAST_SECONDS = 8  # of load after the last fault: by what comes later the agents know what was lost

LOGGED = ("ended by sigkill", "outofmemory", *(["disk is full"] if IS_ROOT else []))  # the least that is said of it

Fault = Callable[[Site, random.Random], None]
EVERYWHERE: tuple[Fault, ...] = (
    faults.kill_ingest, faults.kill_web, faults.kill_agent, faults.kill_broker,
    faults.fill_broker, faults.cut_network, *([faults.fill_disk] if IS_ROOT else []),
)  # fmt: skip


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A disk of its own for the data directory, which a test may fill; the simulated hosts have disks of their own."""
    disk, spools = tmp_path / "disk", tmp_path / "spools"
    disk.mkdir()
    spools.mkdir()
    if IS_ROOT:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MEGABYTES}m", "tmpfs", disk], check=True)
    else:
        warnings.warn("only root can mount a small disk: it is not filled", stacklevel=1)
    (disk / "simulation").symlink_to(spools)
    yield disk
    if IS_ROOT:
        subprocess.run(["umount", "--lazy", disk], check=True)


@contextmanager
def embedded(directory: Path, disk: Path) -> Iterator[Site]:
    """Yield the product on SQLite with its own broker."""
    with start_stack(directory, STEPWATT_DATA_DIR=str(disk)) as stack:
        asked = "from django.conf import settings; print(settings.EMBEDDED_BROKER_PASSWORD)"
        password = stack.manage("shell", "--no-imports", "-c", asked).stdout.strip()
        port = int((disk / "broker" / "port").read_text())
        url = f"redis://:{password}@127.0.0.1:{port}/0"
        with relay(port) as network, relay(port) as far, Redis.from_url(url) as broker:
            yield Site(stack, network, far, url, broker, disk / "ballast", AWAY_SECONDS)


@contextmanager
def with_servers(directory: Path, disk: Path) -> Iterator[Site]:
    """Yield the product on PostgreSQL and a Redis that keeps nothing."""
    with postgresql_server() as database, redis_server(directory) as queue:
        settings = {"STEPWATT_DATABASE_URL": database.url, "STEPWATT_BROKER_URL": queue.url}
        port = urlsplit(queue.url).port
        assert port
        with (
            start_stack(directory, STEPWATT_DATA_DIR=str(disk), **settings) as stack,
            relay(port) as network,
            relay(port) as far,
            Redis.from_url(queue.url) as broker,
        ):
            ballast = disk / "ballast"
            yield Site(stack, network, far, queue.url, broker, ballast, AWAY_SECONDS, queue.kill, database.kill)


def run(site: Site, directory: Path, chosen: Sequence[Fault], seed: int) -> None:
    """Inflict all of them under load, and compare."""
    rng = random.Random(seed)
    near_url, far_url = through(site.network, site.broker_url), through(site.far_network, site.broker_url)
    with (
        load(site.stack, directory, "near", N_HOSTS, near_url) as near,
        load(site.stack, directory, "far", N_FAR, far_url) as far,
    ):
        wait_until(lambda: len(_numbers(stored(site.stack))) == N_HOSTS + N_FAR, 240, "each host's first batch")
        site.far_network.cut()
        until = time.monotonic() + CUT_SECONDS
        for fault in rng.sample(chosen, len(chosen)):
            fault(site, rng)
            time.sleep(1)
        time.sleep(max(0, until - time.monotonic()))
        assert site.far_network.is_missed
        site.far_network.mend()
        time.sleep(LAST_SECONDS)
        took, log = near.stop() | far.stop(), near.log + far.log
    assert len(took) == N_HOSTS + N_FAR
    wait_until(
        lambda: _numbers(stored(site.stack)) == _numbers(took), STORED_SECONDS, "what the hosts took to be stored"
    )
    found = stored(site.stack)
    for host, expected in took.items():
        assert found[host] | expected == found[host], f"seed {seed}"
        assert found[host]["accepted"] == expected["batches"], f"seed {seed}"
    wait_until(lambda: _is_whole(ranges_of_agent(site.stack)), STORED_SECONDS, f"the agent's own batches, seed {seed}")
    told = (site.stack.log + log).lower()
    assert [words for words in LOGGED if words not in told] == []


def _is_whole(epochs: list[list[list[int]]]) -> bool:
    return bool(epochs) and all(len(ranges) == 1 and ranges[0][0] == 0 for ranges in epochs)


def _numbers(hosts: dict[str, dict[str, object]]) -> dict[str, object]:
    """Return {host: its number of batches} of those that have any."""
    return {name: host["batches"] for name, host in hosts.items() if host["batches"]}


@pytest.mark.parametrize("seed", range(TIMES))
def test_nothing_is_lost_or_doubled_on_sqlite(small_disk, tmp_path, seed):
    with embedded(tmp_path, small_disk) as site:
        run(site, tmp_path, EVERYWHERE, seed)


@pytest.mark.parametrize("seed", range(TIMES))
def test_nothing_is_lost_or_doubled_on_postgresql(small_disk, tmp_path, seed):
    with with_servers(tmp_path, small_disk) as site:
        run(site, tmp_path, (*EVERYWHERE, faults.kill_database), seed)
