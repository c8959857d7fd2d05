"""How long SQLite's transactions last: what runs under `timed()` has each noted, with who began it and its CPU time.

A statement that writes outside of any is one of its own. CPU time, not time: whoever else uses the machine makes that longer.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

from django.db.backends.sqlite3.base import DatabaseWrapper, SQLiteCursorWrapper

_OWN = ("telemetry.", "fleet.", "training.")
_WRITES = ("INSERT", "UPDATE", "DELETE", "REPLACE")


class Transaction(NamedTuple):
    """`by` is the function of the product that began it; `cpu_seconds` are this thread's, from the lock to the commit."""

    by: str
    cpu_seconds: float


@contextmanager
def timed() -> Iterator[list[Transaction]]:
    """Yield the list that SQLite's transactions of this block are added to as they end."""
    found: list[Transaction] = []
    began: list[tuple[str, float]] = []
    begin, commit = DatabaseWrapper._start_transaction_under_autocommit, DatabaseWrapper._commit
    execute = SQLiteCursorWrapper.execute

    def beginning(self: DatabaseWrapper) -> None:
        begin(self)
        began[:] = [(_caller(), time.thread_time())]

    def committing(self: DatabaseWrapper) -> None:
        commit(self)
        found.extend(Transaction(by, time.thread_time() - at) for by, at in began)
        began.clear()

    def executing(self: SQLiteCursorWrapper, query: str, params: Any = None) -> Any:
        at = time.thread_time()
        answer = execute(self, query, params)
        if not began and query.startswith(_WRITES):
            found.append(Transaction(_caller(), time.thread_time() - at))
        return answer

    with (
        mock.patch.object(DatabaseWrapper, "_start_transaction_under_autocommit", beginning),
        mock.patch.object(DatabaseWrapper, "_commit", committing),
        mock.patch.object(SQLiteCursorWrapper, "execute", executing),
    ):
        yield found


def _caller() -> str:
    """Return the nearest function of the product above this, as module.function."""
    frame = sys._getframe(2)
    while frame is not None:
        module, name = frame.f_globals.get("__name__", ""), frame.f_code.co_name
        # contextlib's, about a function that is a transaction as a whole
        if name == "inner" and "func" in frame.f_locals:
            module, name = frame.f_locals["func"].__module__, frame.f_locals["func"].__name__
        if module.startswith(_OWN):
            return f"{module}.{name}"
        frame = frame.f_back
    return "?"
