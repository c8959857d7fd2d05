"""What SQLite and PostgreSQL do differently: bulk inserts, sizes, space given back. The only place that asks which it is.

Rows go in as tuples in the order of their class below, past the ORM, inside the caller's transaction. PostgreSQL's partitions
stand in partitions.py. Knows tables by name and must not import the models: the migrations call it too.
"""

import errno
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import psycopg
from django.db import connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper


class BatchRow(NamedTuple):
    """A row of StoredBatch."""

    host_id: int
    start_ms: int
    epoch: str
    sequence: int
    end_ms: int
    body: bytes


class RollupRow(NamedTuple):
    """A row of Rollup."""

    host_id: int
    step_seconds: int
    start_ms: int
    n_buckets: int
    body: bytes


class TableSize(NamedTuple):
    """What a table holds. `n_bytes`: on PostgreSQL all that it takes on disk, on SQLite the bodies of its rows."""

    table: str
    n_rows: int
    n_bytes: int
    oldest_ms: int | None


_TYPES = {  # PostgreSQL's, as the binary COPY must name them
    "host_id": "int8", "start_ms": "int8", "end_ms": "int8", "sequence": "int8", "epoch": "varchar",
    "step_seconds": "int2", "n_buckets": "int2", "body": "bytea",
}  # fmt: skip


def is_postgresql(database: BaseDatabaseWrapper | None = None) -> bool:
    return (database or connection).vendor == "postgresql"


# Bulk inserts --------------------------------------------------------------------------------------------------


def insert_batches(rows: Sequence[BatchRow]) -> None:
    """Insert into StoredBatch. Raises IntegrityError where one stands there: what is a duplicate, AcceptedSequences knows."""
    _insert("telemetry_storedbatch", BatchRow._fields, rows)


def insert_rollups(rows: Sequence[RollupRow]) -> None:
    """Insert into Rollup; one of the same host, step, start and number of buckets is replaced whole."""
    key = ("host_id", "step_seconds", "start_ms", "n_buckets")
    _replace("telemetry_rollup", RollupRow._fields, key, rows)


def mark_rollups_dirty(marks: Iterable[tuple[int, int, int]]) -> None:
    """Mark (host id, step_seconds, start_ms) in DirtyRollup; what is marked already stays so.

    Whoever makes the buckets deletes the marks before he reads the samples, in one transaction: then either he waits for
    the transaction that marks, and reads what it stored, or it waits for him and marks again.
    """
    _mark("telemetry_dirtyrollup", "host_id", marks)


def mark_groups_dirty(marks: Iterable[tuple[int, int, int]]) -> None:
    """Mark (group id, step_seconds, start_ms) in DirtyGroup, as mark_rollups_dirty does."""
    _mark("telemetry_dirtygroup", "group_id", marks)


@contextmanager
def bound_cursor() -> Iterator[psycopg.Cursor[Any]]:
    """Yield PostgreSQL's own cursor, whose values go beside the statement: with `%b` in binary.

    Django's writes them into it as literals, which costs both sides more than all else where they are many or long.
    """
    connection.ensure_connection()
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        yield cursor


def take_turn(turn: int) -> None:
    """Within a transaction, wait for others that took the same turn, and keep it to the end. SQLite lets one write at a time."""
    if is_postgresql():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [turn])


# Reading -------------------------------------------------------------------------------------------------------


class Body(Protocol):
    """Bytes, or what gives some of them."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> bytes: ...


def rollup_bodies(
    table: str, owner: str, owners: Collection[int], step_seconds: int, between_ms: tuple[int, int], *, in_parts: bool
) -> Iterator[tuple[int, int, int, Body]]:
    """Yield (owner, start_ms, n_buckets, body) of the rows of Rollup or GroupRollup that begin between the times, both left out.

    With `in_parts` SQLite gives the bodies of joined rows as open blobs: what is not sliced off them is not read, of a month
    of a host most. Each is to be done with before the next is asked for, and the database not used otherwise meanwhile.
    """
    if not owners:
        return
    is_open = in_parts and not is_postgresql()
    body = "CASE WHEN n_buckets = 1 THEN body END, rowid" if is_open else "body, NULL"
    places = ", ".join(["%s"] * len(owners))
    with _one_state() if is_open else nullcontext(), connection.cursor() as cursor:
        cursor.execute(
            f'SELECT "{owner}", start_ms, n_buckets, {body} FROM "{table}" WHERE "{owner}" IN ({places})'  # noqa: S608
            " AND step_seconds = %s AND start_ms > %s AND start_ms < %s",
            [*owners, step_seconds, *map(int, between_ms)],
        )
        for pk, start_ms, n_buckets, found, rowid in cursor.fetchall():
            if found is not None:
                yield pk, start_ms, n_buckets, bytes(found)
                continue
            with connection.connection.blobopen(table, "body", rowid, readonly=True) as blob:
                yield pk, start_ms, n_buckets, cast(Body, blob)


@contextmanager
def _one_state() -> Iterator[None]:
    """Let SQLite show one state of the file: a row that goes meanwhile may leave its number to another.

    By hand: Django's transactions would lock out whoever writes (BEGIN IMMEDIATE).
    """
    if connection.in_atomic_block:
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        try:
            yield
        finally:
            cursor.execute("COMMIT")


def _insert(table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]], verb: str = "INSERT") -> None:
    if not rows:
        return
    names = ", ".join(columns)
    with connection.cursor() as cursor:
        if not is_postgresql():
            places = ", ".join(["%s"] * len(columns))
            cursor.executemany(f"{verb} INTO {table} ({names}) VALUES ({places})", rows)
            return
        # Binary: as text every body would go over the wire as hexadecimal digits, twice as long.
        statement = f"COPY {table} ({names}) FROM STDIN (FORMAT BINARY)"
        with connection.wrap_database_errors, cursor.copy(statement) as copy:
            copy.set_types([_TYPES[column] for column in columns])
            for row in rows:
                copy.write_row(row)


def _replace(table: str, columns: Sequence[str], key: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert; rows of the same key go first. COPY knows no ON CONFLICT, and a stage would cost a table each time."""
    if rows and is_postgresql():
        keys = [[row[columns.index(column)] for row in rows] for column in key]
        starts = keys[key.index("start_ms")]
        arrays = ", ".join(f"%s::{_TYPES[column]}[]" for column in key)
        with connection.cursor() as cursor:
            cursor.execute(  # the span leaves partitions out that hold none of the rows
                f"DELETE FROM {table} WHERE ({', '.join(key)}) IN (SELECT * FROM unnest({arrays}))"  # noqa: S608
                " AND start_ms BETWEEN %s AND %s",
                [*keys, min(starts), max(starts)],
            )
    _insert(table, columns, rows, "INSERT OR REPLACE")


def _mark(table: str, owner: str, marks: Iterable[tuple[int, int, int]]) -> None:
    # In one order: two workers with the same marks wait for each other, and no deadlock comes.
    rows = sorted(set(marks))
    insert = f"INSERT INTO {table} ({owner}, step_seconds, start_ms)"
    if not is_postgresql():  # one writer at a time: nobody takes a mark meanwhile
        with connection.cursor() as cursor:
            cursor.executemany(f"{insert} VALUES (%s, %s, %s) ON CONFLICT DO NOTHING", rows)
    elif rows:
        # The mark that stands there is written, not skipped: its lock makes the one who takes it wait for the commit.
        with bound_cursor() as bound:
            bound.execute(
                f"{insert} SELECT * FROM unnest(%b::int8[], %b::int2[], %b::int8[])"  # noqa: S608
                f" ON CONFLICT ({owner}, step_seconds, start_ms) DO UPDATE SET start_ms = excluded.start_ms",
                [list(column) for column in zip(*rows, strict=True)],
            )


def keep_latest_in_place() -> None:
    """Have PostgreSQL write a host's newest readings over those before: in the row itself, packed quickly, with room beside.

    By default they lie in a table of their own, packed by pglz, which takes twice as long and leaves its old rows there.
    """
    if not is_postgresql():
        return
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE telemetry_lateststate SET (fillfactor = 50)")
        cursor.execute("ALTER TABLE telemetry_lateststate ALTER COLUMN devices SET STORAGE MAIN")
        # Known since PostgreSQL 14, where it was built with it.
        cursor.execute("SELECT 1 FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY(enumvals)")
        if cursor.fetchone():
            cursor.execute("ALTER TABLE telemetry_lateststate ALTER COLUMN devices SET COMPRESSION lz4")


# Sizes and space -----------------------------------------------------------------------------------------------


def database_bytes() -> int:
    """Return what the database takes on disk: on SQLite the file with its log."""
    if is_postgresql():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_database_size(current_database())")
            return int(cursor.fetchone()[0])
    name = str(connection.settings_dict["NAME"])
    files = (Path(name + ending) for ending in ("", "-wal", "-shm"))
    return sum(file.stat().st_size for file in files if file.exists())


def held_bytes() -> int:
    """Return what the content takes: on SQLite the pages that are in use, wherever they stand until the next checkpoint."""
    if is_postgresql():
        return database_bytes()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT (page_count - freelist_count) * page_size"
            " FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
        )
        return int(cursor.fetchone()[0])


def table_size(table: str) -> TableSize:
    """Return what one of the tables with `start_ms` and `body` holds. Reads all of its rows' heads: not for a page's request."""
    n_bytes = "coalesce(sum(length(body)), 0)"
    if is_postgresql():
        n_bytes = f"(SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('{table}'))"  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*), {n_bytes}, min(start_ms) FROM {table}")  # noqa: S608  own names only
        n_rows, size, oldest_ms = cursor.fetchone()
    return TableSize(table, n_rows, int(size), oldest_ms)


def give_back_space(most_pages: int) -> int:
    """Return up to `most_pages` free pages of SQLite's file to the disk; returns how many went. PostgreSQL sees to itself.

    One transaction: 1,000 pages, which are 4 MB, took 14 ms.
    """
    if is_postgresql():
        return 0
    n_pages = min(most_pages, _pragma("freelist_count")) if gives_back_space() else 0
    with transaction.atomic(), connection.cursor() as cursor:
        for _ in range(n_pages):
            # A page at a time: of a larger number Python's module would do but the first step.
            cursor.execute("PRAGMA incremental_vacuum(1)")
    return n_pages


def gives_back_space() -> bool:
    """Tell whether free space can return to the disk: not from an SQLite file that had no room to be written anew."""
    return is_postgresql() or _pragma("auto_vacuum") == _INCREMENTAL


_INCREMENTAL = 2  # sqlite.org/pragma.html#pragma_auto_vacuum


def let_space_be_given_back() -> None:
    """Write an SQLite file anew, once, so that its free pages can be given back. Outside of any transaction.

    Takes as much free disk again as the file is long; SQLite keeps the old content until the new one is whole.
    """
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA auto_vacuum = INCREMENTAL")
        cursor.execute("VACUUM")


def _pragma(name: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA {name}")
        return int(cursor.fetchone()[0])


def is_out_of_space(error: BaseException) -> bool:
    """Tell whether a database error, or what caused it, says that the disk (or a quota on it) is full."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, sqlite3.Error):
            return getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        if isinstance(cause, psycopg.errors.DiskFull):
            return True
        if isinstance(cause, OSError):
            return cause.errno in {errno.ENOSPC, errno.EDQUOT}
        cause = cause.__cause__
    return False
