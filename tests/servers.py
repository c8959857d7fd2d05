"""PostgreSQL and Redis as an installation with several hosts has them: started by a test on private ports, gone with it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.process.traces import wait_until
from tests.programs import require
from tests.stack import free_port

START_SECONDS = 20


@contextmanager
def postgresql(directory: Path) -> Iterator[str]:
    """Yield the URL of an empty database."""
    programs, port, data = Path(require("postgres")).resolve().parent, free_port(), directory / "postgresql"
    data.mkdir()
    # PostgreSQL refuses to run as root; Debian's package brings a user for it.
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if as_user:
        for folder in (directory, *directory.parents):
            if folder.is_relative_to("/tmp") and folder != Path("/tmp"):  # noqa: S108
                folder.chmod(folder.stat().st_mode | 0o011)
        shutil.chown(data, "postgres")
    initdb = [*as_user, programs / "initdb", "--pgdata", data, "--auth", "trust", "--username", "stepwatt", "--no-sync"]
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd="/")
    options = ["-D", data, "-p", str(port), "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={data}"]
    with (directory / "postgresql.log").open("wb") as log:
        server = subprocess.Popen([*as_user, programs / "postgres", *options], stdout=log, stderr=log, cwd="/")
    try:
        url = f"postgres://stepwatt@127.0.0.1:{port}/postgres"
        wait_until(lambda: _takes_connections(url), START_SECONDS, "PostgreSQL")
        yield url
    finally:
        stop = [*as_user, programs / "pg_ctl", "stop", "--pgdata", data, "--mode", "immediate", "--silent"]
        subprocess.run(stop, check=True, cwd="/", stdout=subprocess.DEVNULL)
        server.wait(timeout=10)


def _takes_connections(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


@contextmanager
def redis(directory: Path) -> Iterator[str]:
    """Yield the URL of a Redis with a password."""
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--requirepass", "geheim", "--save", "", "--dir", directory]
    server = subprocess.Popen([require("redis-server"), *options], stdout=subprocess.DEVNULL)
    try:
        yield f"redis://:geheim@127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait(timeout=10)
