"""Rows of many hosts written in one statement each. Called by the acceptance, inside its transaction.

Past the ORM, which takes longer to prepare these rows than a database to write them; and one statement, because to
PostgreSQL each is a journey there and back. Table and columns are named by the caller, never by a message.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection

from telemetry.vendor_sql import bound_cursor, is_postgresql


class _Kind(NamedTuple):
    """PostgreSQL's types of a column, as it is sent and as it is kept."""

    sent: str
    kept: str


_INTEGER = _Kind("int8", "int8")
_KINDS = {  # of the columns that are no integers
    "changed_at": _Kind("timestamptz", "timestamptz"),
    "devices": _Kind("text", "text"),
    "epoch": _Kind("text", "varchar"),
    "processes": _Kind("text", "text"),
    "ranges": _Kind("text", "jsonb"),
}


def upsert(table: str, key: Sequence[str], columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Insert rows of key and columns, in this order; where the key is there, the columns are written anew."""
    if not rows:
        return
    names = ", ".join([*key, *columns])
    over = f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in columns)}"
    if is_postgresql():
        kinds = [_KINDS.get(name, _INTEGER) for name in (*key, *columns)]
        arrays = ", ".join(f"%b::{kind.sent}[]" for kind in kinds)
        read = ", ".join(f"c{place}::{kind.kept}" for place, kind in enumerate(kinds))
        given = ", ".join(f"c{place}" for place in range(len(kinds)))
        with bound_cursor() as bound:
            bound.execute(
                f"INSERT INTO {table} ({names}) SELECT {read} FROM unnest({arrays}) AS given ({given}) {over}",  # noqa: S608
                [list(column) for column in zip(*rows, strict=True)],
            )
        return
    places = f"({', '.join(['%s'] * len(rows[0]))})"
    statement = f"INSERT INTO {table} ({names}) VALUES {', '.join([places] * len(rows))} {over}"  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(statement, [value for row in rows for value in row])


def note_heard(seen_at: Mapping[int, datetime | None], now: datetime) -> None:
    """Note by host id that it was heard `now`, and the time of its newest sample where one is given."""
    hosts = sorted(seen_at)
    if is_postgresql():
        with bound_cursor() as bound:
            bound.execute(
                "UPDATE fleet_host SET heard_at = %s, last_seen_at = coalesce(at, last_seen_at)"
                " FROM unnest(%b::int8[], %b::timestamptz[]) AS given (host, at) WHERE id = host",
                [now, hosts, [seen_at[host] for host in hosts]],
            )
        return
    changed = {host: at for host, at in seen_at.items() if at is not None}
    cases = "".join(" WHEN %s THEN %s" for _ in changed)
    last_seen = f", last_seen_at = CASE id{cases} ELSE last_seen_at END" if changed else ""
    statement = f"UPDATE fleet_host SET heard_at = %s{last_seen} WHERE id IN ({', '.join(['%s'] * len(hosts))})"  # noqa: S608
    moments = [value for host, at in changed.items() for value in (host, as_stored(at))]
    with connection.cursor() as cursor:
        cursor.execute(statement, [as_stored(now), *moments, *hosts])


def as_stored(at: datetime) -> Any:
    return connection.ops.adapt_datetimefield_value(at)
