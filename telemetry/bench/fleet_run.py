"""10,000 GPUs at 1 Hz against the product as `manage.py up` starts it, embedded broker and SQLite: loss, delay, CPU, memory.

STEPWATT_BENCH_FLEET_SECONDS is how long (1800); the figures say how long it was. Somebody logs in every ten seconds
meanwhile. The hosts live in a process of their own (fleet_sender.py), whose cost is told apart.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from fleet.settings import BASE_DIR
from telemetry.bench.figure import BenchFailed, Figure
from telemetry.bench.fleet_sender import Told
from telemetry.bench.logins import Logins, p95
from telemetry.bench.own_server import Calls, environment
from telemetry.bench.server_up import Up, server_up
from telemetry.bench.signals import GPUS_PER_HOST, METRICS

N_HOSTS, SECONDS = 1250, 1800
MOST_DELAY_SECONDS, MOST_CORES, MOST_GROWTH, MOST_LOGIN_SECONDS = 10.0, 1.0, 1.1, 1.0
_CATCH_UP_SECONDS, _POLL_SECONDS, _LOOK_SECONDS = 120.0, 0.25, 5.0
_PREFIX, _MB = "sim-", 1e6  # this machine's own agent is no part of it


@dataclass(slots=True)
class Delays:
    """How long each sample took from its time until a reader could see it; counted up to the look that saw it first."""

    start_ms: int
    seen_ms: dict[str, int] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    def look(self, newest_ms: dict[str, int], now_ms: float) -> None:
        """Note the samples, one a second, that a host shows now and did not show before."""
        for host, at_ms in newest_ms.items():
            before = self.seen_ms.get(host, self.start_ms - 1000)
            self.seconds += ((now_ms - sample_ms) / 1000 for sample_ms in range(at_ms, before, -1000))
            self.seen_ms[host] = max(at_ms, before)

    def percentile(self, share: float) -> float:
        """Raises BenchFailed where no sample was ever seen."""
        if not self.seconds:
            raise BenchFailed("no sample of the fleet was ever seen")
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass(frozen=True, slots=True)
class Watched:
    """What was seen while the fleet sent: `cores` by process, `resident_bytes` of all of them at each look."""

    told: Told
    delays: Delays
    cores: dict[str, float]
    resident_bytes: list[int]


@dataclass(frozen=True, slots=True)
class Kept:
    """What the store has of it when the queue is empty. `n_differing` GPUs of those that were compared differ."""

    n_batches: int
    n_values: int
    n_differing: int


def run(directory: Path) -> list[Figure]:
    """Return the figures. Raises BenchFailed."""
    seconds = int(os.environ.get("STEPWATT_BENCH_FLEET_SECONDS") or SECONDS)
    with server_up(directory) as up:
        calls = Calls(environment(directory))
        try:
            seeds = calls("enrol", [f"{_PREFIX}{n:04}" for n in range(N_HOSTS)])
            logins = Logins(up.web, calls)
            quiet = logins.times(10)
            with logins.going_on() as busy, _sender(calls("broker_url"), seeds, seconds) as sender:
                watched = _watch(sender, up, calls)
            kept = _kept(calls, watched.told)
        finally:
            calls.end()
    return [*_of_samples(seconds, watched, kept), *_of_cost(seconds, watched), *_of_logins(quiet, busy)]


@contextmanager
def _sender(broker_url: str, seeds: dict[str, str], seconds: int) -> "Iterator[subprocess.Popen[str]]":
    command = [sys.executable, "-m", "telemetry.bench.fleet_sender"]
    process = subprocess.Popen(command, cwd=BASE_DIR, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None  # noqa: S101 — Popen promises it
    process.stdin.write(json.dumps({"broker_url": broker_url, "seeds": seeds, "seconds": seconds, "seed": 1}) + "\n")
    process.stdin.flush()
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def _watch(sender: "subprocess.Popen[str]", up: Up, calls: Calls) -> Watched:
    """Look on until the fleet has sent everything. Raises BenchFailed where somebody ends before."""
    began, before = time.monotonic(), up.cpu_seconds()
    delays, resident, next_look = Delays(int(time.time()) * 1000), [], began
    while sender.poll() is None:
        delays.look(calls("newest_ms", _PREFIX), time.time() * 1000)
        if time.monotonic() >= next_look:
            resident.append(up.resident_bytes())
            next_look += _LOOK_SECONDS
        time.sleep(_POLL_SECONDS)
    seconds, after = time.monotonic() - began, up.cpu_seconds()
    words = sender.stdout.read() if sender.stdout else ""
    if sender.returncode or not words:
        raise BenchFailed("the simulated fleet ended before its time; what it said stands above")
    cores = {name: (after[name] - before[name]) / seconds for name in after}
    return Watched(Told(**json.loads(words)), delays, cores, resident)


def _kept(calls: Calls, told: Told) -> Kept:
    """Return what is stored once everything has come, or time is up."""
    deadline = time.monotonic() + _CATCH_UP_SECONDS
    while (n_batches := calls("n_accepted", _PREFIX)) < told.n_batches and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    end_ms = int(time.time() * 1000)
    digests = {uuid: calls("digest", uuid, told.start_ms, end_ms) for uuid in told.digests}
    n_differing = sum(digests[uuid] != digest for uuid, digest in told.digests.items())
    return Kept(n_batches, calls("n_values", _PREFIX), n_differing)


def _of_samples(seconds: int, watched: Watched, kept: Kept) -> list[Figure]:
    told = watched.told
    lost = told.n_values - kept.n_values
    is_whole = not lost and kept.n_batches == told.n_batches and not kept.n_differing
    name, delays = f"{N_HOSTS * GPUS_PER_HOST:,} GPUs × {len(METRICS)} metrics at 1 Hz for {seconds} s", watched.delays
    return [
        Figure(
            f"{name}: values lost of {told.n_values:,}",
            lost,
            "values",
            target="none, and equal to the bit",
            met=is_whole,
        ),
        Figure(f"{name}: sample to queryable, median", delays.percentile(0.5), "s"),
        _most(f"{name}: sample to queryable, p99", delays.percentile(0.99), "s", MOST_DELAY_SECONDS),
    ]


def _of_cost(seconds: int, watched: Watched) -> list[Figure]:
    resident = watched.resident_bytes
    quarter = max(1, len(resident) // 4)
    early, late = median(resident[quarter : 2 * quarter] or resident), median(resident[-quarter:])
    own = [Figure(f"the same: {name} alone", cores, "cores") for name, cores in watched.cores.items()]
    return [
        _most("the same: server processes together", sum(watched.cores.values()), "cores", MOST_CORES),
        *own,
        Figure("the same: server memory in the second quarter of the time", early / _MB, "MB"),
        _most("the same: memory in the last quarter over that", late / early, "×", MOST_GROWTH),
        Figure("the same: simulator", watched.told.cpu_seconds / seconds, "cores"),
        Figure("the same: simulator behind the clock at worst", watched.told.late_seconds, "s"),
    ]


def _of_logins(quiet: list[float], busy: list[float]) -> list[Figure]:
    found = [Figure("login, p95, nobody sends", p95(quiet), "s")]
    return found + ([_most("login, p95, while the fleet sends", p95(busy), "s", MOST_LOGIN_SECONDS)] if busy else [])


def _most(name: str, value: float, unit: str, most: float) -> Figure:
    return Figure(name, value, unit, target=f"at most {most:g}", met=value <= most)
