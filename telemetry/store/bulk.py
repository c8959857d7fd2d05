"""Rows of many hosts written in one statement each. Called by the acceptance, inside its transaction.

Past the ORM, which takes longer to prepare these rows than a database to write them; and one statement, because to
PostgreSQL each is a journey there and back. Table and columns are named by the caller, never by a message.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import connection


def upsert(table: str, key: Sequence[str], columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Insert rows of key and columns, in this order; where the key is there, the columns are written anew."""
    if not rows:
        return
    places = f"({', '.join(['%s'] * len(rows[0]))})"
    statement = (
        f"INSERT INTO {table} ({', '.join([*key, *columns])}) VALUES {', '.join([places] * len(rows))}"  # noqa: S608
        f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in columns)}"
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, [value for row in rows for value in row])


def note_heard(seen_at: Mapping[int, datetime | None], now: datetime) -> None:
    """Note by host id that it was heard `now`, and the time of its newest sample where one is given."""
    changed = {host: at for host, at in seen_at.items() if at is not None}
    cases = "".join(" WHEN %s THEN %s" for _ in changed)
    last_seen = f", last_seen_at = CASE id{cases} ELSE last_seen_at END" if changed else ""
    hosts = sorted(seen_at)
    statement = f"UPDATE fleet_host SET heard_at = %s{last_seen} WHERE id IN ({', '.join(['%s'] * len(hosts))})"  # noqa: S608
    moments = [value for host, at in changed.items() for value in (host, as_stored(at))]
    with connection.cursor() as cursor:
        cursor.execute(statement, [as_stored(now), *moments, *hosts])


def as_stored(at: datetime) -> Any:
    return connection.ops.adapt_datetimefield_value(at)
