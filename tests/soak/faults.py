"""What can happen to a running product, each as one function of (site, rng), which returns when it is over again."""

import errno
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from redis import Redis

from telemetry.broker.transport import CELERY_OPTIONS
from tests.process.traces import wait_until
from tests.soak.relay import Relay
from tests.stack import Stack, command_of

BACK_SECONDS = 120
SOCKET_SECONDS: float = CELERY_OPTIONS["broker_transport_options"]["socket_timeout"]


@dataclass
class Site:
    """The product and the parts of it that faults reach for; what is None it has no server of its own for."""

    stack: Stack
    network: Relay  # to most of the hosts
    far_network: Relay  # to the others, which nothing but its cut happens to
    broker_url: str  # as if there were no network between
    broker: Redis
    ballast: Path  # a file on the small disk that the data directory is on
    away_seconds: float
    kill_redis: Callable[[], None] | None = (
        None  # kills the broker's server that is not the stack's, and starts it again
    )
    kill_postgresql: Callable[[], None] | None = None  # the same of the database's


def kill_ingest(site: Site, rng: random.Random) -> None:
    _kill(site, "ingest@", rng)


def kill_web(site: Site, rng: random.Random) -> None:
    _kill(site, "uvicorn", rng)
    wait_until(lambda: _is_served(site), BACK_SECONDS, "pages again")


def kill_agent(site: Site, rng: random.Random) -> None:
    _kill(site, "telemetry.agent", rng)


def kill_broker(site: Site, rng: random.Random) -> None:
    if site.kill_redis is None:
        _kill(site, "valkey-server", rng)
    else:
        time.sleep(rng.random())
        site.kill_redis()


def kill_database(site: Site, rng: random.Random) -> None:
    assert site.kill_postgresql is not None
    time.sleep(rng.random())
    site.kill_postgresql()


def fill_disk(site: Site, rng: random.Random) -> None:
    """Take every byte that the disk has, for a while. It is over when the agent trusts its disk again.

    What waits in its memory meanwhile is lost with its process: that were two faults at a time.
    """
    met = _n_full(site.stack.log)
    with site.ballast.open("wb", buffering=0) as file:
        block = bytes(65_536)
        try:
            while True:
                file.write(block)
        except OSError as error:
            assert error.errno == errno.ENOSPC  # noqa: PT017 — anything else is the test's own fault
    time.sleep(site.away_seconds)
    wait_until(lambda: _n_full(site.stack.log) > met, BACK_SECONDS, "somebody to meet the full disk")
    site.ballast.unlink()
    wait_until(lambda: _spools_on_disk(site.stack.log), BACK_SECONDS, "the agent's spool on the disk again")


def _n_full(log: str) -> int:
    return log.lower().count("disk is full")


def _spools_on_disk(log: str) -> bool:
    return log.rfind("batches wait in memory") <= log.rfind("the spool is on the disk again")


def fill_broker(site: Site, rng: random.Random) -> None:
    """Give the broker no memory for anything new, for a while."""
    refused = _n_refused(site.broker)
    site.broker.config_set("maxmemory", "1mb")
    time.sleep(site.away_seconds)
    wait_until(lambda: _n_refused(site.broker) > refused, BACK_SECONDS, "somebody to meet the full broker")
    site.broker.config_set("maxmemory", "0")


def _n_refused(broker: Redis) -> int:
    """Return how often the broker had no memory for what came, since it was started."""
    return int(broker.info("errorstats").get("errorstat_OOM", {"count": 0})["count"])


def cut_network(site: Site, rng: random.Random) -> None:
    """Pull the cable for longer than a client waits for an answer."""
    site.network.cut()
    time.sleep(max(site.away_seconds, 1.2 * SOCKET_SECONDS))
    wait_until(lambda: site.network.is_missed, BACK_SECONDS, "somebody to send something while the network was cut")
    site.network.mend()


def _is_served(site: Site) -> bool:
    try:
        return httpx.get(f"{site.stack.url}/healthz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def _kill(site: Site, words: str, rng: random.Random) -> None:
    """Kill it at a random moment, and wait until the supervisor has started it again."""
    time.sleep(rng.random())
    victim = site.stack.child(words)
    victim.kill()
    psutil.wait_procs([victim], timeout=60)
    wait_until(lambda: _is_there(site.stack, words), BACK_SECONDS, f"{words} again")


def _is_there(stack: Stack, words: str) -> bool:
    children = psutil.Process(stack.pid).children(recursive=True)
    return any(words in command_of(process) for process in children)
