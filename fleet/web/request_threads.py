"""The threads in which requests are answered: each request has one for itself, and hands it on. Called by asgi.py.

A thread keeps its database connection (databases.py): to open an SQLite file takes a millisecond.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from django.db import connections

KEPT = 8  # idle ones: each connection may hold 8 MB


class RequestThreads:
    """Used by the event loop's thread; the idle ones come back from their own."""

    def __init__(self) -> None:
        self._idle: list[ThreadPoolExecutor] = []

    @property
    def n_idle(self) -> int:
        return len(self._idle)

    @contextmanager
    def one(self) -> Iterator[ThreadPoolExecutor]:
        """Yield an executor with one thread that nobody else has meanwhile."""
        thread = self._idle.pop() if self._idle else ThreadPoolExecutor(1, "request")
        try:
            yield thread
        finally:
            # Behind what the request left there: the view of one that was broken off still runs.
            thread.submit(self._take_back, thread)

    def _take_back(self, thread: ThreadPoolExecutor) -> None:
        if len(self._idle) < KEPT:
            self._idle.append(thread)
        else:
            connections.close_all()
            thread.shutdown(wait=False)
