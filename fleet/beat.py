"""The clock of all servers of an installation: of several, one holds the lock and sends the tasks, the others wait for it.

`celery --app fleet.beat beat --scheduler fleet.beat:Scheduler`. On PostgreSQL the lock is the session's that holds it, on SQLite
a file's in the data directory: either goes with its holder, however he ends.
"""

import fcntl
import logging
from pathlib import Path
from typing import IO, Any, Protocol

import psycopg
from celery import Celery
from celery.beat import PersistentScheduler
from celery.signals import setup_logging
from django.conf import settings
from django.db import connection
from django.utils.log import configure_logging

from fleet.celery_options import configured

logger = logging.getLogger(__name__)

WAIT_SECONDS = 2.0
_KEY = 0x5354_4550_5741_5454  # "STEPWATT": of advisory locks there is one set in a database
# A holder whose machine is gone says no good-bye: both ends notice within 11 s (5 + 3 × 2), instead of two hours.
_KEEPALIVE = {"idle": 5, "interval": 2, "count": 3}


# It sends tasks by their names, so it loads neither them nor Django's apps: half of the memory (77 MB instead of 143).
app = configured(Celery("stepwatt-beat", fixups=[], set_as_current=False))


@setup_logging.connect  # type: ignore[untyped-decorator]  # Celery has no types
def _log_as_django_does(**_: Any) -> None:
    configure_logging(settings.LOGGING_CONFIG, settings.LOGGING)


class Lock(Protocol):
    def is_held(self) -> bool:
        """Tell whether the lock is this process's, which takes it where it is free. Asked before each turn."""


class FileLock:
    """For an installation with its database in a file, whose servers are on one machine."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def is_held(self) -> bool:
        if self._file is None:
            file = self._path.open("ab")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                return False
            self._file = file
        return True


class DatabaseLock:
    """PostgreSQL's advisory lock, of a connection that is kept for it: not one of the pool, which would hand it on.

    (postgresql.org/docs/15/explicit-locking.html#ADVISORY-LOCKS)
    """

    def __init__(self) -> None:
        self._session: psycopg.Connection[Any] | None = None
        self._has_lock = False

    def is_held(self) -> bool:
        try:
            return self._ask()
        except psycopg.OperationalError as error:
            if self._has_lock:
                logger.warning("the clock stops, as the database is away: %s", str(error).partition("\n")[0])
            self._session, self._has_lock = None, False
            return False

    def _ask(self) -> bool:
        if self._session is None:
            self._session = self._connect()
        # A session that ended has lost the lock: an answer proves that it lives.
        question = "SELECT true" if self._has_lock else "SELECT pg_try_advisory_lock(%(key)s)"
        row = self._session.execute(question, {"key": _KEY}).fetchone()
        self._has_lock = bool(row and row[0])
        return self._has_lock

    def _connect(self) -> psycopg.Connection[Any]:
        ours: dict[str, Any] = {f"keepalives_{name}": value for name, value in _KEEPALIVE.items()}
        session = psycopg.connect(
            **{"connect_timeout": 3, **connection.get_connection_params(), **ours},
            tcp_user_timeout=11_000,
            autocommit=True,
        )
        for name, value in _KEEPALIVE.items():
            session.execute(f"SET tcp_keepalives_{name} = {value}")
        return session


class Scheduler(PersistentScheduler):  # type: ignore[misc]  # Celery has no types
    """Celery's scheduler, which sends nothing as long as another process holds the lock."""

    _waits = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        url, directory = settings.STEPWATT_DATABASE_URL, settings.STEPWATT_DATA_DIR
        self._lock: Lock = DatabaseLock() if url else FileLock(directory / "beat.lock")
        super().__init__(*args, **kwargs)

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send what is due; returns how long to sleep, in seconds."""
        if not self._lock.is_held():
            if not self._waits:
                logger.info("another server's clock runs; this one takes over when that ends")
            self._waits = True
            return WAIT_SECONDS
        if self._waits:
            logger.info("this server's clock runs now")
        self._waits = False
        return min(float(super().tick(*args, **kwargs)), WAIT_SECONDS)
