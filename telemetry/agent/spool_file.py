"""The spool's file: batches that wait for the server's acknowledgement, in SQLite. Called by the spool alone.

A batch that was added is the kernel's when `add` returns, and with `sync` on the disk as well (WAL, synced at each commit),
and so is the end of its epoch's numbers: a killed process makes no name be given twice. Nor does a power cut: what it may
have undone was named in another boot, after which the numbers go on far behind. Standard library only.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from telemetry.agent.names import Names, Parcel
from telemetry.message.wire import renamed

MEMORY = ":memory:"
_VACUUM_PAGES, _MOST_VACUUM_PAGES = 256, 4096  # a megabyte that is free is given back, at most 16 at a time
_SKIPPED = 1_000_000  # more names than lie between two checkpoints, which always sync
_ROWS = 200  # read at a time, where many are
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}  # the last: tables of somebody else
_TABLES = """
CREATE TABLE IF NOT EXISTS epochs (
    id INTEGER PRIMARY KEY, epoch TEXT NOT NULL UNIQUE, host TEXT NOT NULL, machine TEXT NOT NULL, boot TEXT NOT NULL,
    following INTEGER NOT NULL DEFAULT 0, segment INTEGER NOT NULL DEFAULT 0, offset REAL
);
CREATE TABLE IF NOT EXISTS batches (
    id INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL, made_ms INTEGER NOT NULL,
    body BLOB NOT NULL, UNIQUE (epoch, sequence)
);
"""

Ranges = Sequence[tuple[int, int]]


class SpoolFailed(Exception):
    """The file cannot be read or written; `is_damaged` where it will not by itself be well again."""

    def __init__(self, error: sqlite3.Error) -> None:
        super().__init__(str(error))
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        self.is_damaged = code & 0xFF in _DAMAGED


class Kept(NamedTuple):
    """A parcel and its place in the order in which they were added."""

    id: int
    parcel: Parcel


class SpoolFile:
    """All of it may raise SpoolFailed, and then nothing of that call was done. `n_bytes` is what the batches take on the disk."""

    def __init__(self, path: Path | str, *, boot: str = "") -> None:
        """`boot` tells the machine's starts apart."""
        self._boot = boot
        with _translated():
            self._db = sqlite3.connect(path, timeout=2.0, isolation_level=None, check_same_thread=False)
        self._n = self._last = self.n_bytes = 0
        self._numbers: dict[str, int] = {}
        try:
            with _translated():
                self._prepare()
        except SpoolFailed:
            self._db.close()
            raise

    def close(self) -> None:
        self._db.close()

    def sync(self, *, is_wanted: bool) -> None:
        """Have each change on the disk before it is done, from now on; what was added before goes along with the next."""
        with _translated():
            self._db.execute(f"PRAGMA synchronous = {'FULL' if is_wanted else 'NORMAL'}")

    def names(self, host: str, machine: str) -> Names:
        """Return how the host goes on naming; begins an epoch where there is none.

        A disk that was copied to another machine begins another epoch there, and what waits is renamed.
        """
        with self._changing():
            found = self._db.execute(
                "SELECT epoch, following, segment, offset, machine, boot FROM epochs WHERE host = ? ORDER BY id DESC LIMIT 1",
                (host,),
            ).fetchone()
            if found is None:
                names = Names(uuid4().hex, host=host)
                self._begin(names, machine)
                return names
            epoch, following, segment, offset, known, boot = found
            if boot != self._boot:
                following += _SKIPPED
                self._db.execute(
                    "UPDATE epochs SET following = ?, boot = ? WHERE epoch = ?", (following, self._boot, epoch)
                )
            names = Names(epoch, host=host, following=following, segment=segment, offset=offset)
            if known != machine:
                names.begin(uuid4().hex)
                self._begin(names, machine)
                self._rename(epoch, names)
            return names

    def begin(self, names: Names, machine: str, *, renaming: str = "") -> None:
        """Note the epoch of these names, if it is new; what waits of the epoch `renaming` is renamed into it."""
        with self._changing():
            self._begin(names, machine)
            if renaming:
                self._rename(renaming, names)

    def add(self, parcels: Sequence[Parcel], names: Mapping[str, Names], made_ms: int) -> list[Kept]:
        """Keep parcels of epochs that have begun. `names` are those of their hosts."""
        n_before, last_before = self._n, self._last
        try:
            with self._changing():
                return [self._add(parcel, names[parcel.host], made_ms) for parcel in parcels]
        except SpoolFailed:
            self._n, self._last = n_before, last_before
            raise

    def remove(self, epoch: str, ranges: Ranges) -> int:
        """Remove the batches of these sequences, ends included; returns how many there were."""
        with self._changing():
            number = self._number_of(epoch)
            least, most = self._db.execute(
                "SELECT min(sequence), max(sequence) FROM batches WHERE epoch = ?", (number,)
            ).fetchone()
            removed = 0
            for first, last in ranges:
                if least is not None and first <= most and last >= least:
                    removed += self._db.execute(
                        "DELETE FROM batches WHERE epoch = ? AND sequence BETWEEN ? AND ?", (number, first, last)
                    ).rowcount
        self._n -= removed
        self._shrink()
        return removed

    def drop_before(self, made_ms: int) -> int:
        """Remove what was made before then; returns how many there were."""
        with self._changing():
            dropped = self._db.execute("DELETE FROM batches WHERE made_ms < ?", (made_ms,)).rowcount
        self._n -= dropped
        self._shrink()
        return dropped

    def shift(self, step_ms: int, now_ms: int) -> None:
        """Take the clock to have been set by so much when all of it was made already; nothing was made after now."""
        with self._changing():
            self._db.execute("UPDATE batches SET made_ms = min(made_ms + ?, ?)", (step_ms, now_ms))

    def drop_oldest(self, n_bytes: int) -> int:
        """Remove the oldest batches that together have so many bytes, one at least; returns how many."""
        with self._changing():
            last, found = 0, 0
            for number, size in self._db.execute("SELECT id, length(body) FROM batches ORDER BY id"):
                last, found = number, found + size
                if found >= n_bytes:
                    break
            dropped = self._db.execute("DELETE FROM batches WHERE id <= ?", (last,)).rowcount
        self._n -= dropped
        self._shrink()
        return dropped

    def forget_pages(self) -> None:
        """Free the pages that are kept in memory: an outage reads and writes more of them than all days after it."""
        with _translated():
            self._db.execute("PRAGMA shrink_memory")

    def after(self, number: int, most: int) -> list[Kept]:
        """Return what was added after that one, in this order."""
        with _translated():
            rows = self._db.execute(
                "SELECT batches.id, host, epochs.epoch, sequence, body FROM batches JOIN epochs ON epochs.id = batches.epoch"
                " WHERE batches.id > ? ORDER BY batches.id LIMIT ?",
                (number, most),
            ).fetchall()
        return [Kept(number, Parcel(*fields)) for number, *fields in rows]

    def find(self, epoch: str, sequence: int) -> Parcel | None:
        with _translated():
            row = self._db.execute(
                "SELECT host, epochs.epoch, sequence, body FROM batches JOIN epochs ON epochs.id = batches.epoch"
                " WHERE epochs.epoch = ? AND sequence = ?",
                (epoch, sequence),
            ).fetchone()
        return Parcel(*row) if row else None

    @property
    def n_batches(self) -> int:
        return self._n

    def _prepare(self) -> None:
        # Before the first table: without it a file that was once full would never be smaller again.
        self._db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA journal_size_limit = 4194304")
        self._db.executescript(_TABLES)
        self._page_bytes = self._pragma("page_size")
        self._n, self._last = self._db.execute("SELECT count(*), coalesce(max(id), 0) FROM batches").fetchone()
        self._measure()

    def _begin(self, names: Names, machine: str) -> None:
        self._db.execute(
            "INSERT OR IGNORE INTO epochs (epoch, host, machine, boot, segment, offset) VALUES (?, ?, ?, ?, ?, ?)",
            (names.epoch, names.host, machine, self._boot, names.segment, names.offset),
        )

    def _add(self, parcel: Parcel, names: Names, made_ms: int) -> Kept:
        number = self._number_of(parcel.epoch)
        self._last += 1
        self._n += self._db.execute(
            "INSERT OR IGNORE INTO batches VALUES (?, ?, ?, ?, ?)",  # it may be there since a move that broke off
            (self._last, number, parcel.sequence, made_ms, parcel.body),
        ).rowcount
        self._db.execute(
            "UPDATE epochs SET following = max(following, ?), segment = ?, offset = ? WHERE id = ?",
            (parcel.sequence + 1, names.segment, names.offset, number),
        )
        return Kept(self._last, parcel)

    def _rename(self, epoch: str, names: Names) -> None:
        before, after = self._number_of(epoch), self._number_of(names.epoch)
        while rows := self._db.execute(
            "SELECT id, body FROM batches WHERE epoch = ? ORDER BY id LIMIT ?", (before, _ROWS)
        ).fetchall():
            for number, body in rows:
                _, sequence = names.claim()
                self._db.execute(
                    "UPDATE batches SET epoch = ?, sequence = ?, body = ? WHERE id = ?",
                    (after, sequence, renamed(body, names.epoch, sequence), number),
                )
                self._db.execute("UPDATE epochs SET following = ? WHERE id = ?", (sequence + 1, after))

    def _number_of(self, epoch: str) -> int:
        """Return the epoch's row, 0 where there is none."""
        if epoch not in self._numbers:
            row = self._db.execute("SELECT id FROM epochs WHERE epoch = ?", (epoch,)).fetchone()
            if row is None:
                return 0
            self._numbers[epoch] = int(row[0])
        return self._numbers[epoch]

    def _shrink(self) -> None:
        with _translated():
            free = self._pragma("freelist_count")
            if free > _VACUUM_PAGES:
                # As a script: it has a step for each page, and `execute` takes only the first, as there are no columns.
                self._db.executescript(f"PRAGMA incremental_vacuum({min(free, _MOST_VACUUM_PAGES)})")
                self._measure()

    def _measure(self) -> None:
        self.n_bytes = (self._pragma("page_count") - self._pragma("freelist_count")) * self._page_bytes

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with _translated():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._measure()  # within, where it takes no lock of its own
                self._db.execute("COMMIT")
            except BaseException:
                self._numbers.clear()  # what was begun may be gone
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise SpoolFailed(error) from error
