"""Throughput of ingest workers on PostgreSQL: one, then two, on a private server that ends with the bench.

Whether the second core is free for the second worker is told by what all processes use with one.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psycopg

from telemetry.bench.figure import BenchFailed, Figure
from telemetry.bench.own_server import own_server, wait_until
from telemetry.bench.peer import free_port
from telemetry.bench.whole_path import Fleet, Load, OwnSide, Speed

LEAST_TIMES = 1.6
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
    load = Load(400, 9, 10)  # hosts enough that two workers seldom meet at one
    fleet = Fleet(load, 2 * ROUNDS + 2)
    own = directory / "server"
    with _postgresql(directory, program) as database, own_server(own, database.url) as server:
        side = OwnSide(server, fleet.names, database.pid)
        for number in range(2 * ROUNDS + 2):
            side.publish(f"round-{number}", fleet.live())
        server.start_worker("ingest-1")
        side.take("round-0", load)
        one, two = [], []
        for number in range(1, 2 * ROUNDS + 1, 2):
            one.append(side.take(f"round-{number}", load))
            server.start_worker("ingest-2")
            if number == 1:
                side.take(f"round-{2 * ROUNDS + 1}", load)  # the second worker sees the fleet for the first time
            two.append(side.take(f"round-{number + 1}", load))
            server.stop("ingest-2")
    return _figures(one, two)


def _figures(one: list[Speed], two: list[Speed]) -> list[Figure]:
    alone, together = (median(speed.values_per_second for speed in speeds) for speeds in (one, two))
    busy = median(speed.cpu_seconds * speed.values_per_second / 1e6 for speed in one)
    is_free = busy * LEAST_TIMES <= (os.cpu_count() or 1)
    return [
        Figure(
            "PostgreSQL, 10 s batches, two ingest workers", together, "values/s", "one ingest worker", alone,
            f"at least {LEAST_TIMES:g} × its peer's where the second core is free",
            together >= LEAST_TIMES * alone if is_free else None,
        ),
        Figure("the same with one worker: worker, broker and database together", busy, "cores"),
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
