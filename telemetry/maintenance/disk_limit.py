"""`STEPWATT_DISK_LIMIT`: a warning as the database grows towards it; beyond it, the oldest raw samples go before their time.

Rollups and energy stay: only where the raw samples are down to their last day, minutes go too. Called by the upkeep.
"""

import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings

from fleet import units
from fleet.inventory import events
from fleet.models import EventKind
from telemetry import vendor_sql
from telemetry.maintenance import retention
from telemetry.store import partitions, shortened
from telemetry.store.partitions import Partitioned

WARN_SHARE = 0.9
_FREE_SHARE = 0.05  # of free space that is worth telling
_PAGES_AT_ONCE = 1_000
# What is shortened, in this order, and what is left of each whatever the limit says.
_SHORTENED = (
    (partitions.CHUNKS, timedelta(days=1)),
    (partitions.BATCHES, timedelta(days=1)),
    (partitions.ROLLUPS[60], timedelta(days=7)),
)


@dataclass(frozen=True, slots=True)
class Fill:
    """How full the database is; there is no limit where `limit_bytes` is None.

    The limit is one of what it holds: space that is free already needs nothing deleted, it is given back or used again.
    """

    used_bytes: int
    held_bytes: int
    limit_bytes: int | None

    @property
    def is_near(self) -> bool:
        return self.limit_bytes is not None and self.held_bytes >= WARN_SHARE * self.limit_bytes

    @property
    def is_over(self) -> bool:
        return self.limit_bytes is not None and self.held_bytes > self.limit_bytes

    @property
    def words(self) -> str:
        used = str(units.quantity(self.used_bytes, "bytes"))
        if self.limit_bytes is not None:
            used += f" of {units.quantity(self.limit_bytes, 'bytes')}"
        free_bytes = self.used_bytes - self.held_bytes
        is_much = free_bytes > _FREE_SHARE * self.used_bytes
        return f"{used}, {units.quantity(free_bytes, 'bytes')} of it free" if is_much else used


def fill() -> Fill:
    return Fill(vendor_sql.database_bytes(), vendor_sql.held_bytes(), settings.STEPWATT_DISK_LIMIT)


def keep(now: datetime, deadline: float) -> str:
    """Warn, then shorten, until `deadline` (time.monotonic); returns what there is to say of it, "" where all is well."""
    found = fill()
    if not found.is_near:
        return ""
    if not found.is_over:
        text = f"the database takes {found.words}; beyond the limit the oldest raw samples will go"
        events.record(EventKind.DISK_LIMIT, now, text)
        return text
    shortened = [table.table for table, least in _SHORTENED if _shorten(table, now - least, deadline)]
    has_time = time.monotonic() < deadline
    text = f"the database took {found.words}: {_words(shortened, has_time=has_time)}; it takes {fill().words} now"
    events.record(EventKind.DISK_LIMIT, now, text)
    return text


def _shorten(table: Partitioned, no_later: datetime, deadline: float) -> int:
    """Delete a partition's width at a time, the oldest first, while the limit is exceeded; returns what went."""
    gone, width = 0, timedelta(milliseconds=table.width_ms)
    while fill().is_over and time.monotonic() < deadline:
        begin = retention.oldest(table)
        if begin is None or begin >= no_later:
            break
        # Nothing goes of one width where statistics are waited for, or where a partition's last row reaches beyond it.
        went = _retire(table, min(begin + width, no_later), deadline)
        went = went or _retire(table, min(begin + 2 * width, no_later), deadline)
        if not went:
            break
        gone += went
        give_back(deadline)
    return gone


def _retire(table: Partitioned, before: datetime, deadline: float) -> int:
    before_ms = retention.milliseconds(before)
    shortened.note(table, before_ms)
    return retention.retire_before(table, before_ms, deadline)


def give_back(deadline: float) -> int:
    """Return freed pages to the disk, a slice at a time; returns how many."""
    pages = 0
    while time.monotonic() < deadline and (went := vendor_sql.give_back_space(_PAGES_AT_ONCE)):
        pages += went
    return pages


def _words(tables: list[str], *, has_time: bool) -> str:
    if not tables:
        return (
            "nothing is left that may go before its time" if has_time else "the run's time was up before anything went"
        )
    return (
        "the oldest rows of "
        + ", ".join(table.removeprefix("telemetry_") for table in tables)
        + " went before their time"
    )
