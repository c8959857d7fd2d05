"""What must hold before anything is started: each function raises StartRefused with one line on what to do.

Called by `manage.py up` and the system checks.
"""

import errno
import fcntl
import importlib.util
import os
import socket
import tempfile
from pathlib import Path
from typing import IO

import psycopg
from django.db import Error as DatabaseError
from django.db import connection
from kombu.exceptions import OperationalError

from fleet.celery import app

_TIMEOUT_SECONDS = 3


class StartRefused(Exception):
    """Something outside is not as it must be; the message is one line that says what, and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


def check_data_directory(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"\0" * 4096)
    except OSError as error:
        raise StartRefused(
            f"the data directory {directory} cannot be written ({error.strerror}); "
            "correct its owner and mode, or set STEPWATT_DATA_DIR to another"
        ) from error


def take_lock(directory: Path) -> IO[str]:
    """Return the open lock file: the lock holds as long as it stays open, and goes with the process."""
    file = (directory / "up.lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        holder = file.read().strip()
        file.close()
        raise StartRefused(
            f"Stepwatt already runs on {directory} (process {holder}); stop it first, "
            "or set STEPWATT_DATA_DIR and STEPWATT_BIND to run a second one"
        ) from error
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def check_bind(address: str, port: int) -> None:
    error = listen_error(address, port)
    if error:
        remedy = "stop the program that holds the port, or " if error.errno == errno.EADDRINUSE else ""
        raise StartRefused(
            f"cannot listen on {address}:{port} ({error.strerror}); "
            f"{remedy}set STEPWATT_BIND to another address:port of this machine"
        )


def listen_error(address: str, port: int) -> OSError | None:
    """Return why nobody could listen there now; None where it is free."""
    try:
        family, kind, _, _, where = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: old connections don't count
            probe.bind(where)
            probe.listen()
    except OSError as error:
        return error
    return None


def check_database(url_is_set: bool) -> None:
    """Open the database and read its table of contents; a configured one outside of the pool, which hides the reason."""
    os.environ.setdefault("PGCONNECT_TIMEOUT", str(_TIMEOUT_SECONDS))  # libpq would wait for minutes
    if url_is_set and not importlib.util.find_spec("psycopg_pool"):
        raise StartRefused(
            "the package psycopg_pool is missing, which STEPWATT_DATABASE_URL needs; install requirements.txt again"
        )
    try:
        if url_is_set:
            psycopg.connect(**connection.get_connection_params()).close()
        connection.introspection.table_names()
    except (DatabaseError, psycopg.Error) as error:
        reason = str(error).partition("\n")[0]
        if url_is_set:
            raise StartRefused(
                f"the database of STEPWATT_DATABASE_URL cannot be used ({reason}); "
                "check the URL, and that its server runs and lets this user in"
            ) from error
        raise StartRefused(
            f"the database file {connection.settings_dict['NAME']} cannot be used ({reason}); "
            "restore it from a backup, or move it away to begin with an empty one"
        ) from error
    finally:
        connection.close()


def check_ingest_workers(number: int, url_is_set: bool) -> None:
    if number > 1 and not url_is_set:
        raise StartRefused(
            f"STEPWATT_INGEST_WORKERS={number} needs PostgreSQL: a database file takes one writer at a time, so a second "
            "worker would only wait for the first; set STEPWATT_DATABASE_URL, or leave it at 1"
        )


def check_broker(url: str) -> None:
    """Connect to the configured broker once. The message shows its URL without the password."""
    options = {"socket_connect_timeout": _TIMEOUT_SECONDS, "socket_timeout": _TIMEOUT_SECONDS}
    broker = app.connection_for_write(url, connect_timeout=_TIMEOUT_SECONDS, transport_options=options)
    try:
        broker.ensure_connection(max_retries=1, interval_start=0)
    except (OperationalError, OSError, ValueError, *broker.connection_errors, *broker.channel_errors) as error:
        raise StartRefused(
            f"the broker {broker.as_uri()} cannot be reached ({error}); "
            "check STEPWATT_BROKER_URL and that it runs, with TLS also STEPWATT_BROKER_CA, "
            "or unset the variable to use the embedded one"
        ) from error
    finally:
        broker.release()
