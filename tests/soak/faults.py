"""What can happen to a running product, each as one function of (site, rng), which returns when it is over again."""

import errno
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
from redis import Redis

from tests.process.traces import wait_until
from tests.soak.relay import Relay
from tests.stack import Stack, command_of

BACK_SECONDS = 60


@dataclass
class Site:
    """The product and the parts of it that faults reach for; what is None cannot be had there."""

    stack: Stack
    relay: Relay
    broker: Redis
    database: Callable[[], None] | None = None  # kills the database's server, and starts it again
    ballast: Path | None = None  # a file on the small disk that the data directory is on
    away_seconds: float = 8


def kill_ingest(site: Site, rng: random.Random) -> None:
    _kill(site, "ingest@", rng)


def kill_web(site: Site, rng: random.Random) -> None:
    _kill(site, "uvicorn", rng)


def kill_agent(site: Site, rng: random.Random) -> None:
    _kill(site, "telemetry.agent", rng)


def kill_broker(site: Site, rng: random.Random) -> None:
    _kill(site, "valkey-server", rng)


def kill_database(site: Site, rng: random.Random) -> None:
    assert site.database is not None
    time.sleep(rng.random())
    site.database()


def fill_disk(site: Site, rng: random.Random) -> None:
    """Take every byte that the disk has, for a while."""
    assert site.ballast is not None
    with site.ballast.open("wb", buffering=0) as file:
        block = bytes(65_536)
        try:
            while True:
                file.write(block)
        except OSError as error:
            assert error.errno == errno.ENOSPC  # noqa: PT017 — anything else is the test's own fault
    time.sleep(site.away_seconds)
    site.ballast.unlink()


def fill_broker(site: Site, rng: random.Random) -> None:
    """Give the broker no memory for anything new, for a while."""
    site.broker.config_set("maxmemory", "1mb")
    time.sleep(site.away_seconds)
    site.broker.config_set("maxmemory", "0")


def cut_network(site: Site, rng: random.Random) -> None:
    site.relay.cut()
    time.sleep(site.away_seconds)
    site.relay.mend()


def _kill(site: Site, words: str, rng: random.Random) -> None:
    """Kill it at a random moment, and wait until the supervisor has started it again."""
    time.sleep(rng.random())
    victim = site.stack.child(words)
    victim.kill()
    psutil.wait_procs([victim], timeout=5)
    wait_until(lambda: _is_there(site.stack, words), BACK_SECONDS, f"{words} again")


def _is_there(stack: Stack, words: str) -> bool:
    children = psutil.Process(stack.pid).children(recursive=True)
    return any(words in command_of(process) for process in children)
