"""PostgreSQL's partitions by time: made ahead, and dropped when all that they hold is too old. Called by upkeep.

A table's partitions are of one width, from the epoch on; `…_rest` is the default one, which takes every row that none of
them is for. Retention never drops what an imported host holds, of whatever age: where a partition goes, such rows move into
the rest, so that a drop needs no flag in the rows. The rest is small: what was imported, and what came too late.
SQLite has no partitions: there every row is the rest.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar

from django.db import OperationalError, connection, transaction

from fleet.slices import first_of
from telemetry.vendor_sql import is_postgresql

logger = logging.getLogger(__name__)
_Which = TypeVar("_Which")

DAY_MS = 86_400_000
_KEPT = "host_id IN (SELECT id FROM fleet_host WHERE origin = 'imported')"  # fleet.models.Origin


@dataclass(frozen=True, slots=True)
class Partitioned:
    """A table that is partitioned by `start_ms`; on SQLite its rows are those of `whole` for which `which` holds."""

    table: str
    width_ms: int
    whole: str
    end: str  # of a row: what retention goes by
    which: str = "true"
    row_ms: int = 0  # how far the longest row reaches beyond its beginning, and so beyond its partition


# As wide as one drop may overshoot, and few enough for the planner: 90 days of minutes are 13 weeks, 5 years of hours 6.
# Samples go when the last of their row is old: whoever makes statistics takes what is younger to be whole.
BATCHES = Partitioned("telemetry_storedbatch", DAY_MS, "telemetry_storedbatch", "end_ms + 1", row_ms=DAY_MS)
CHUNKS = Partitioned("telemetry_chunk", DAY_MS, "telemetry_chunk", "end_ms + 1")
ROLLUPS = {
    step: Partitioned(
        f"telemetry_rollup_{step}",
        days * DAY_MS,
        "telemetry_rollup",
        f"start_ms + CAST(n_buckets AS bigint) * {step * 1000}",  # of 25 days it is no int4 any more
        f"step_seconds = {step}",
        row_ms,
    )
    for step, days, row_ms in ((60, 7, DAY_MS // 24), (900, 30, DAY_MS), (3600, 360, 30 * DAY_MS))
}
ALL = (BATCHES, CHUNKS, *ROLLUPS.values())
_AHEAD = 3  # partitions beyond the present one: upkeep may stand still for as many days


class Partition(NamedTuple):
    """A partition holds the rows with start_ms <= their time < end_ms."""

    name: str
    start_ms: int
    end_ms: int


def are_there() -> bool:
    """Tell whether the tables stand in partitions: on SQLite never."""
    if not is_postgresql():
        return False
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s)", [f"{CHUNKS.table}_rest"])
        return cursor.fetchone()[0] is not None


def keep(now_ms: int, oldest_ms: Mapping[Partitioned, int] | None = None) -> int:
    """Make the partitions of the present and the next ones; returns how many were made.

    Also those for rows of the rest that are not older than `oldest_ms`, what retention still holds, and moves them there.
    A table that is in use too long is left for the next run.
    """
    if not is_postgresql():
        return 0
    made = 0
    for partitioned in ALL:
        width = partitioned.width_ms
        there = {partition.start_ms for partition in partitions(partitioned)}
        wanted = {(now_ms // width + ahead) * width for ahead in range(_AHEAD + 1)}
        if oldest_ms is not None:
            wanted |= _starts_in_rest(partitioned, oldest_ms[partitioned], now_ms)
        made += sum(_unless_busy(_make, partitioned, start_ms) for start_ms in sorted(wanted - there))
    return made


def drop_older(partitioned: Partitioned, before_ms: int) -> int:
    """Drop the partitions in which every row begins before the time, all but what imported hosts hold; returns how many."""
    if not is_postgresql():
        return 0
    old = [partition for partition in partitions(partitioned) if partition.end_ms + partitioned.row_ms <= before_ms]
    return sum(_unless_busy(_drop, partitioned, partition) for partition in old)


def delete_older(partitioned: Partitioned, before_ms: int, most_rows: int, most_bytes: int) -> int:
    """Delete rows of the rest that end before the time, none of an imported host's, so many at once; returns how many.

    By their bytes too: an hour of one device takes a hundred kilobytes, a month of a host's hours a megabyte.
    """
    table, row = (f"{partitioned.table}_rest", "ctid") if is_postgresql() else (partitioned.whole, "rowid")
    old = (
        # By host: every key and index of these tables begins with it, or with the device.
        f"FROM {table} WHERE {partitioned.which}"  # noqa: S608  own names only
        " AND host_id IN (SELECT id FROM fleet_host WHERE NOT (origin = 'imported'))"
        f" AND start_ms < %s AND {partitioned.end} <= %s"
    )
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {row}, length(body) {old} LIMIT %s", [before_ms, before_ms, most_rows])
        chosen = first_of(cursor.fetchall(), most_bytes)
        if not chosen:
            return 0
        # Again with what makes a row old: another may stand at its place by now.
        which = "ctid = ANY(%s::tid[])" if is_postgresql() else f"rowid IN ({', '.join(['%s'] * len(chosen))})"
        places = [chosen] if is_postgresql() else chosen
        cursor.execute(f"DELETE {old} AND {which}", [before_ms, before_ms, *places])
        return int(cursor.rowcount)


def drop_emptied(partitioned: Partitioned, before_ms: int) -> int:
    """Drop old partitions that hold no row any more: what is left of batches that were compacted; returns how many."""
    if not is_postgresql():
        return 0
    dropped = 0
    for partition in partitions(partitioned):
        if partition.end_ms <= before_ms and not _has_rows(partition.name):
            # What was stored since it was looked at moves into the rest: it was accepted.
            dropped += _unless_busy(_drop_all_kept, partitioned, partition)
    return dropped


def partitions(partitioned: Partitioned) -> list[Partition]:
    """Return a table's partitions but for the rest, oldest first."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relid::regclass::text FROM pg_partition_tree(%s) WHERE isleaf AND level = 1", [partitioned.table]
        )
        names = [name for (name,) in cursor.fetchall() if not name.endswith("_rest")]
    starts = ((name, _start_ms(name)) for name in names)
    return sorted((Partition(name, start, start + partitioned.width_ms) for name, start in starts), key=lambda p: p[1])


def _name(partitioned: Partitioned, start_ms: int) -> str:
    return f"{partitioned.table}_{datetime.fromtimestamp(start_ms / 1000, UTC):%Y%m%d}"


def _start_ms(name: str) -> int:
    return int(datetime.strptime(name.rpartition("_")[2], "%Y%m%d").replace(tzinfo=UTC).timestamp() * 1000)


def _starts_in_rest(partitioned: Partitioned, oldest_ms: int, now_ms: int) -> set[int]:
    width = partitioned.width_ms
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT DISTINCT start_ms / %s FROM {partitioned.table}_rest WHERE start_ms BETWEEN %s AND %s",  # noqa: S608
            [width, oldest_ms, now_ms],
        )
        return {slot * width for (slot,) in cursor.fetchall()}


def _has_rows(table: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT EXISTS (SELECT FROM {table})")  # noqa: S608
        return bool(cursor.fetchone()[0])


# One partition, in one transaction -----------------------------------------------------------------------------

# A lock that waits holds up all who come after it: rather the next run.
_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '3s'"
_BUSY = {"55P03", "40P01"}  # lock_not_available, deadlock_detected (postgresql.org/docs/15/errcodes-appendix.html)


def _make(partitioned: Partitioned, start_ms: int) -> None:
    """Make a partition with the rows of the rest that belong in it. Made apart and attached: that holds up no reader."""
    table, name, end_ms = partitioned.table, _name(partitioned, start_ms), start_ms + partitioned.width_ms
    _execute(
        _LOCK_TIMEOUT,
        # A foreign key comes with it. In this order, which is the one of whoever stores: the host's row, then the batch.
        "LOCK TABLE fleet_host, fleet_device IN SHARE ROW EXCLUSIVE MODE",
        f"LOCK TABLE {table}_rest IN ACCESS EXCLUSIVE MODE",
        f"CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)",
        f"WITH moved AS (DELETE FROM {table}_rest WHERE start_ms >= {start_ms} AND start_ms < {end_ms} RETURNING *)"  # noqa: S608
        f" INSERT INTO {name} SELECT * FROM moved",
        f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({start_ms}) TO ({end_ms})",
    )


def _drop_all_kept(partitioned: Partitioned, partition: Partition) -> None:
    _drop(partitioned, partition, kept="true")


def _drop(partitioned: Partitioned, partition: Partition, kept: str = _KEPT) -> None:
    """Drop a partition; rows that are to be kept, those of imported hosts, go to the rest."""
    table, name = partitioned.table, partition.name
    _execute(
        _LOCK_TIMEOUT,
        "SET CONSTRAINTS ALL IMMEDIATE",  # a foreign key that waits to be checked would hold the table
        "LOCK TABLE fleet_host, fleet_device IN ACCESS EXCLUSIVE MODE",  # its foreign keys go
        f"ALTER TABLE {table} DETACH PARTITION {name}",
        f"INSERT INTO {table} SELECT * FROM {name} WHERE {kept}",  # noqa: S608
        f"DROP TABLE {name}",
    )


def _execute(*statements: str) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def _unless_busy(act: Callable[[Partitioned, _Which], None], partitioned: Partitioned, which: _Which) -> bool:
    """Do it; False where its tables are in use for too long."""
    try:
        act(partitioned, which)
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", None) not in _BUSY:
            raise
        logger.warning("a partition of %s waits for the next run: the table is in use", partitioned.table)
        return False
    return True
