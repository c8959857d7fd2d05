"""Throughput of ingest workers on PostgreSQL: one, then two, on a private server that ends with the bench.

Whether the second core is free for the second worker is told by what all processes use with one, and what the machine leaves.
Rounds last some seconds, as the last messages of each wait for others (grouped.py).
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg

from telemetry.bench.figure import BenchFailed, Figure
from telemetry.bench.own_server import own_server, wait_until
from telemetry.bench.peer import free_port
from telemetry.bench.whole_path import CPU_UNIT, Fleet, Load, OwnSide, Speed, median_of

LEAST_TIMES = 1.6
# The hosts of 10,000 GPUs: with fewer, two workers with 200 messages each would often meet at one, and wait.
LOAD = Load(1250, 10, 10)
_FIRST_BATCHES = 2
ROUNDS = 3  # of one and of two workers each, in turns
_START_SECONDS, _STOP_SECONDS = 30.0, 30.0
_USER = "stepwatt"


@dataclass(frozen=True, slots=True)
class Database:
    url: str
    pid: int


def run(directory: Path) -> list[Figure]:
    """Return the figures; none where PostgreSQL is not installed. Raises BenchFailed."""
    program = _program("postgres")
    if program is None:
        return []
    fleet = Fleet(LOAD, (ROUNDS + 1) * 3)
    own = directory / "server"
    with _postgresql(directory, program) as database, own_server(own, database.url) as server:
        side = OwnSide(server, fleet.names, database.pid)
        server.start_worker("ingest-1")
        _take(side, fleet, _FIRST_BATCHES)
        one, two = [], []
        for _ in range(ROUNDS):
            one.append(_take(side, fleet, LOAD.n_batches))
            server.start_worker("ingest-2")
            _take(side, fleet, _FIRST_BATCHES)  # the second worker sees the fleet for the first time
            two.append(_take(side, fleet, LOAD.n_batches))
            server.stop("ingest-2")
    return _figures(median_of(one), median_of(two))


def _take(side: OwnSide, fleet: Fleet, n_batches: int) -> Speed:
    """Return how fast so many batches of each host were taken: the newest, as a fleet sends them."""
    side.publish("round", fleet.live(n_batches))
    return side.take("round", replace(LOAD, n_batches=n_batches))


def _figures(one: Speed, two: Speed) -> list[Figure]:
    most_times = (one.busy_cores + one.idle_cores) / one.busy_cores
    met = two.values_per_second >= LEAST_TIMES * one.values_per_second if most_times >= LEAST_TIMES else None
    return [
        Figure(
            "PostgreSQL, 10 s batches, two ingest workers", two.values_per_second, "values/s", "one ingest worker",
            one.values_per_second, f"at least {LEAST_TIMES:g} × its peer's where the second core is free", met,
        ),
        Figure("the same: CPU of workers, broker and database", two.cpu_seconds, CPU_UNIT, "one ingest worker", one.cpu_seconds),
        Figure("the same: cores that these used", two.busy_cores, "cores", "one ingest worker", one.busy_cores),
        Figure("the same: cores that did nothing", two.idle_cores, "cores", "one ingest worker", one.idle_cores),
        Figure("the same: how often one worker's cores lie in what it used and left", most_times, "×"),
    ]  # fmt: skip


@contextmanager
def _postgresql(directory: Path, program: Path) -> Iterator[Database]:
    """Yield an empty database. PostgreSQL refuses to run as root: then it runs as Debian's user for it."""
    data, port = directory / "postgresql", free_port()
    data.mkdir(parents=True)
    as_user: list[str | Path] = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if as_user:
        _open_way_to(directory)
        shutil.chown(data, "postgres")
    programs = program.parent
    initdb = [*as_user, programs / "initdb", "--pgdata", data, "--auth", "trust", "--username", _USER, "--no-sync"]
    _call(initdb)
    options: list[str | Path] = [
        "-D",
        data,
        "-p",
        str(port),
        "-c",
        "listen_addresses=127.0.0.1",
        "-c",
        f"unix_socket_directories={data}",
    ]
    with (directory / "postgresql.log").open("wb") as log:
        command = [*as_user, program, *options]
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd="/")
    try:
        url = f"postgres://{_USER}@127.0.0.1:{port}/postgres"
        wait_until(lambda: _takes_connections(url), _START_SECONDS, "PostgreSQL")
        yield Database(url, server.pid)
    finally:
        _call([*as_user, programs / "pg_ctl", "stop", "--pgdata", data, "--mode", "fast", "--silent"])
        server.wait(_STOP_SECONDS)


def _open_way_to(directory: Path) -> None:
    """Let another user pass through the bench's own directories, which are its temporary one and those below."""
    for folder in (directory, *directory.parents):
        if folder.stat().st_uid == os.geteuid() and folder.stat().st_mode & 0o777 == 0o700:
            folder.chmod(0o711)


def _call(command: list[str | Path]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    if done.returncode:
        raise BenchFailed(f"{' '.join(map(str, command))}: {done.stderr[-300:]}")


def _takes_connections(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def _program(name: str) -> Path | None:
    """Return where a server program lies: on the PATH, or where Debian keeps them, one folder a version."""
    found = shutil.which(name)
    if found:
        return Path(found).resolve()
    return next(iter(sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)), None)
