"""The database's settings: PostgreSQL through a pool, or one SQLite file, each option with its reason. Called by settings.py."""

from pathlib import Path
from typing import Any

import dj_database_url

_POOL = {
    # It opens what is asked for: a worker, which has one thread, holds one connection, the web as many as it answers at once.
    "min_size": 0,
    "max_size": 20,
    "max_idle": 60,
    "timeout": 5,
    # By itself it tries for five minutes, at growing intervals, where the server was away: rather the next request tries.
    "reconnect_timeout": 3,
}
_PRAGMAS = (
    # Readers never wait for the ingest, nor it for them.
    "journal_mode=WAL",
    # An agent forgets what was acknowledged after its commit, so a commit must outlive a power cut. One fsync each: the
    # ingest makes a few a second, as it takes many batches at once.
    "synchronous=FULL",
    # 8 MB a connection, of which the web has a few; with 32 MB no insert, compaction or read was quicker.
    "cache_size=-8000",
    # The log, which grows as long as somebody reads, goes back to this afterwards.
    "journal_size_limit=67108864",
)
# Left as they are: page_size 4096 (with 8192 half of a page stayed empty beside a batch of 4.3 kB: 199 MB instead of 112);
# wal_autocheckpoint 1000 (with 4000 a single commit paid up to 175 ms for all of it); mmap_size 0 (a chunk is read in 12
# instead of 21 µs, which is little beside its decoding, and the file would count as the process's memory). auto_vacuum is a
# migration's, once: said again it is a write, and each connection would wait for the ingest (9.4 ms instead of 1.2 to open).


def configured(url: str, directory: Path) -> dict[str, Any]:
    """Return Django's settings of the database at `url`, else of the file in the data directory."""
    if url:
        # No connection is kept by a thread (under ASGI each request has a thread of its own): the pool keeps them.
        config: dict[str, Any] = {**dj_database_url.parse(url, conn_max_age=0, conn_health_checks=True)}
        return config | {"OPTIONS": config.get("OPTIONS", {}) | {"pool": _POOL}}
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": directory / "stepwatt.sqlite3",
        "CONN_MAX_AGE": None,  # of the few threads that live on (request_threads.py): to open the file takes a millisecond
        "OPTIONS": {
            # A writer takes its lock at BEGIN and waits for it, instead of failing half-way when it upgrades.
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "".join(f"PRAGMA {pragma};" for pragma in _PRAGMAS),
        },
    }
