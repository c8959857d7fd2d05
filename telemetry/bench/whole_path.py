"""The whole path: from the broker through the ingest workers to what is committed, beside the import of VictoriaMetrics.

Batches are made, signed and put into the broker before the clock starts, as their making is the agents' cost; it starts
when the worker may take them, and ends when the last is stored. What the broker took to receive them is in its CPU time.
Both sides get the same readings, take turns, and have seen their series before. There are more hosts than messages in one
transaction, as in a fleet, so that no transaction has two of one host.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

from telemetry.bench import prometheus, victoria
from telemetry.bench.figure import Figure
from telemetry.bench.own_server import Server, own_server
from telemetry.bench.peer import Peer, is_installed
from telemetry.bench.process_cost import idle_seconds, tree_cpu_seconds
from telemetry.bench.publishing import publish
from telemetry.bench.signals import GPUS_PER_HOST, METRICS, Floats, Signals, batch, in_units
from telemetry.message.wire import pack

ROUNDS = 3
_QUIET_SECONDS = 0.5
TIMES_TEXT, TIMES_JSON, MOST_CPU_SECONDS, MOST_OF_SCRAPE = 1.2, 1.5, 0.5, 0.5
CPU_UNIT = "CPU s per million values"


@dataclass(frozen=True, slots=True)
class Load:
    """What one round brings: `n_batches` of each host, of `n_ticks` seconds each."""

    n_hosts: int
    n_batches: int
    n_ticks: int

    @property
    def n_messages(self) -> int:
        return self.n_hosts * self.n_batches

    @property
    def n_values(self) -> int:
        return self.n_messages * self.n_ticks * GPUS_PER_HOST * len(METRICS)


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a side took a round; `cpu_seconds` are those of all its processes, for a million values.

    `idle_cores` of the machine did nothing meanwhile.
    """

    values_per_second: float
    cpu_seconds: float
    idle_cores: float = 0.0

    @property
    def busy_cores(self) -> float:
        return self.cpu_seconds * self.values_per_second / 1e6


class Made(NamedTuple):
    """A batch: `values (25, n_gpus, n_ticks)` in base units, `body` packed."""

    host: str
    times_ms: list[int]
    values: Floats
    body: bytes


class Fleet:
    """Hosts that live on from round to round."""

    def __init__(self, load: Load, n_rounds: int) -> None:
        self.load = load
        self.names = [f"host-{n:03}" for n in range(load.n_hosts)]
        self._signals = Signals(load.n_hosts * GPUS_PER_HOST, seed=load.n_ticks)
        seconds = load.n_batches * load.n_ticks
        self._at_ms = (int(time.time()) - 600 - n_rounds * seconds) * 1000
        self._sequence = 0

    def live(self, n_batches: int | None = None) -> list[Made]:
        """Return the next round's batches, or so many of each host, in the order in which a fleet sends them."""
        return [each for _ in range(n_batches or self.load.n_batches) for each in self._next()]

    def _next(self) -> Iterator[Made]:
        n_ticks = self.load.n_ticks
        values = in_units(self._signals.advance(n_ticks))
        times_ms = [self._at_ms + 1000 * tick for tick in range(n_ticks)]
        for place, name in enumerate(self.names):
            own = values[:, place * GPUS_PER_HOST : (place + 1) * GPUS_PER_HOST]
            made = batch(name, f"{place + 1:032x}", self._sequence, times_ms, own)
            yield Made(name, times_ms, own, pack(made))
        self._at_ms += 1000 * n_ticks
        self._sequence += 1


class OwnSide:
    """Our processes, which have published nothing yet. `database_pid` is the database's, where it is a process of its own."""

    def __init__(self, server: Server, names: Sequence[str], database_pid: int | None = None) -> None:
        self.server, self._database_pid = server, database_pid
        self._seeds = server.calls("enrol", list(names))
        self._n_accepted = 0
        self._receiving: dict[str, float] = {}

    def publish(self, held: str, made: Iterable[Made]) -> None:
        """Put a round into the broker, and aside."""
        before = self.cpu_seconds()
        publish(self.server.aside_url, self._seeds, ((each.host, each.body) for each in made))
        self._receiving[held] = self.cpu_seconds() - before
        self.server.hold(held)

    def take(self, held: str, load: Load) -> Speed:
        """Let the workers take a round. Raises BenchFailed where they come to a stand."""
        self._n_accepted += load.n_messages
        before, idle_before, began = self.cpu_seconds(), idle_seconds(), time.monotonic()
        self.server.release(held)
        seconds = self.server.wait_until_taken(self._n_accepted) - began
        idle_cores = (idle_seconds() - idle_before) / (time.monotonic() - began)
        cpu_seconds = self.cpu_seconds() - before + self._receiving.pop(held, 0.0)
        return Speed(load.n_values / seconds, cpu_seconds * 1e6 / load.n_values, idle_cores)

    def cpu_seconds(self) -> float:
        return self.server.cpu_seconds() + (tree_cpu_seconds(self._database_pid) if self._database_pid else 0.0)


def run(directory: Path) -> list[Figure]:
    """Return the figures of 10 s and of 60 s batches. Raises BenchFailed."""
    # Rounds of some seconds: in short ones their start counts too much.
    small, large = Load(400, 9, 10), Load(200, 2, 60)
    own_10, peer_10 = _compare(directory / "10", small, victoria.TEXT_PATH)
    own_60, peer_60 = _compare(directory / "60", large, victoria.JSON_PATH)
    scraped = _scrape(directory / "scrape")
    return [
        _speed(small, own_10, "text import", peer_10, TIMES_TEXT),
        _cpu(own_10, scraped),
        _speed(large, own_60, "JSON import, 60 values a line", peer_60, TIMES_JSON),
        Figure("the same with 60 s batches, CPU", own_60.cpu_seconds, CPU_UNIT, "VictoriaMetrics, JSON import",
               peer_60.cpu_seconds if peer_60 else None),
        *([Figure("VictoriaMetrics, text import, CPU", peer_10.cpu_seconds, CPU_UNIT)] if peer_10 else []),
    ]  # fmt: skip


def _compare(directory: Path, load: Load, path: str) -> tuple[Speed, Speed | None]:
    """Return the medians of ROUNDS of each side; the first round, in which all series are new, does not count."""
    directory.mkdir()
    fleet = Fleet(load, ROUNDS + 1)
    with ExitStack() as stack:
        own = OwnSide(stack.enter_context(own_server(directory)), fleet.names)
        peer = stack.enter_context(victoria.victoria(directory)) if is_installed(victoria.PROGRAM) else None
        rounds: list[list[bytes]] = []
        for number in range(ROUNDS + 1):
            made = fleet.live()
            own.publish(f"round-{number}", made)
            rounds.append(_requests(path, made) if peer else [])
        own.server.start_worker()
        ours, theirs = [], []
        for number, requests in enumerate(rounds):
            ours.append(own.take(f"round-{number}", load))
            if peer:
                theirs.append(_import(peer, path, requests, load))
    return median_of(ours[1:]), median_of(theirs[1:]) if theirs else None


def _requests(path: str, made: Sequence[Made]) -> list[bytes]:
    """Return the bodies for the peer: as text ten batches a request, which it takes faster than one; as JSON one."""
    body, together = (victoria.text_body, 10) if path == victoria.TEXT_PATH else (victoria.json_body, 1)
    bodies = [body(each.host, each.times_ms, each.values) for each in made]
    return [b"".join(bodies[first : first + together]) for first in range(0, len(bodies), together)]


def _import(peer: Peer, path: str, requests: Sequence[bytes], load: Load) -> Speed:
    """Return how fast the peer took the round: half of it on one connection, half on two at once; the better one counts."""
    half = len(requests) // 2
    found = []
    for n_connections, some in ((1, requests[:half]), (2, requests[half:])):
        n_values = load.n_values * len(some) / len(requests)
        before, began = peer.cpu_seconds(), time.monotonic()
        with ThreadPoolExecutor(n_connections) as pool:
            shares = [some[n::n_connections] for n in range(n_connections)]
            list(pool.map(partial(victoria.send, peer, path), shares))
        seconds = time.monotonic() - began
        time.sleep(_QUIET_SECONDS)
        found.append(Speed(n_values / seconds, (peer.cpu_seconds() - before) * 1e6 / n_values))
    return max(found, key=lambda speed: speed.values_per_second)


def _scrape(directory: Path) -> float | None:
    """Return Prometheus's CPU seconds for a million values."""
    if not is_installed(prometheus.PROGRAM):
        return None
    directory.mkdir()
    cpu_seconds, n_values = prometheus.scrape_cost(directory)
    return cpu_seconds * 1e6 / n_values


def median_of(speeds: Sequence[Speed]) -> Speed:
    return Speed(
        median(speed.values_per_second for speed in speeds),
        median(speed.cpu_seconds for speed in speeds),
        median(speed.idle_cores for speed in speeds),
    )


def _speed(load: Load, own: Speed, what: str, peer: Speed | None, times: float) -> Figure:
    return Figure(
        f"broker → worker → committed, {load.n_ticks} s batches of {GPUS_PER_HOST} GPUs × {len(METRICS)} metrics, one worker",
        own.values_per_second, "values/s", f"VictoriaMetrics, {what}", peer.values_per_second if peer else None,
        f"at least {times:g} × its peer's",
        own.values_per_second >= times * peer.values_per_second if peer else None,
    )  # fmt: skip


def _cpu(own: Speed, scraped: float | None) -> Figure:
    met = None if scraped is None else own.cpu_seconds <= min(MOST_CPU_SECONDS, MOST_OF_SCRAPE * scraped)
    return Figure(
        "the same, CPU of worker, broker and database", own.cpu_seconds, CPU_UNIT, "Prometheus, scrape", scraped,
        f"at most {MOST_CPU_SECONDS:g}, and at most half of its peer's", met,
    )  # fmt: skip
