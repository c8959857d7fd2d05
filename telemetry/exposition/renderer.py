"""The one thread in which expositions are read, rendered and joined: no thread that serves pages. Called by views/metrics.py.

Scrapes that ask for the same while it is being made share one body.
"""

import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from threading import Lock

from django.db import close_old_connections
from django.utils import timezone

from telemetry.exposition.scrape import Fleet, Wanted

_SWITCH_SECONDS = 0.0005

Submit = Callable[[Callable[[], bytes]], "Future[bytes]"]


class Renderer:
    """Makes bodies through `submit`, which runs one at a time."""

    def __init__(self, submit: Submit) -> None:
        self._submit = submit
        self._fleet = Fleet()
        self._lock = Lock()
        self._under_way: dict[Wanted, Future[bytes]] = {}

    def body(self, wanted: Wanted) -> bytes:
        """Return the body, of a state no older than the beginning of its making. Raises UnknownHost."""
        with self._lock:
            future = self._under_way.get(wanted)
            if future is None or future.done():
                future = self._under_way[wanted] = self._submit(lambda: self._fleet.document(wanted, timezone.now()))
        try:
            return future.result()
        finally:
            with self._lock:
                if self._under_way.get(wanted) is future:
                    del self._under_way[wanted]


@cache
def of_this_process() -> Renderer:
    """Return the web process's renderer; its thread begins with the first scrape.

    A page goes from thread to thread some ten times, and each time waits until this thread lets go of the interpreter: that is
    5 ms by Python's own setting.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="exposition")
    return Renderer(lambda make: thread.submit(_with_own_connection, make))


def _with_own_connection(make: Callable[[], bytes]) -> bytes:
    """Django closes a thread's connections after a request; this thread serves none."""
    try:
        return make()
    finally:
        close_old_connections()
