"""`STEPWATT_DISK_LIMIT`: a warning as the database grows towards it; beyond it, the oldest raw samples go before their time.

Rollups and energy stay: only where the raw samples are down to their last day, minutes go too. Called by the upkeep.
"""

import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings

from fleet import events, units
from fleet.models import EventKind
from telemetry import partitions, retention, vendor_sql
from telemetry.partitions import Partitioned
from telemetry.store import shortened

WARN_SHARE = 0.9
_PAGES_AT_ONCE = 1_000
# What is shortened, in this order, and what is left of each whatever the limit says.
_SHORTENED = (
    (partitions.CHUNKS, timedelta(days=1)),
    (partitions.BATCHES, timedelta(days=1)),
    (partitions.ROLLUPS[60], timedelta(days=7)),
)


@dataclass(frozen=True, slots=True)
class Fill:
    """How full the database is; there is no limit where `limit_bytes` is None."""

    used_bytes: int
    limit_bytes: int | None

    @property
    def is_near(self) -> bool:
        return self.limit_bytes is not None and self.used_bytes >= WARN_SHARE * self.limit_bytes

    @property
    def is_over(self) -> bool:
        return self.limit_bytes is not None and self.used_bytes > self.limit_bytes

    @property
    def words(self) -> str:
        used = units.quantity(self.used_bytes, "bytes")
        return str(used) if self.limit_bytes is None else f"{used} of {units.quantity(self.limit_bytes, 'bytes')}"


def fill() -> Fill:
    return Fill(vendor_sql.database_bytes(), settings.STEPWATT_DISK_LIMIT)


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
    text = f"the database took {found.words}: {_words(shortened)}; it takes {fill().words} now"
    events.record(EventKind.DISK_LIMIT, now, text)
    return text


def _shorten(table: Partitioned, no_later: datetime, deadline: float) -> int:
    """Delete a partition's width at a time, the oldest first, while the limit is exceeded; returns what went."""
    gone = 0
    while fill().is_over and time.monotonic() < deadline:
        begin = retention.oldest(table)
        if begin is None or begin >= no_later:
            break
        before = min(begin + timedelta(milliseconds=table.width_ms), no_later)
        shortened.note(table, retention.milliseconds(before))
        went = retention.retire_before(table, retention.milliseconds(before), deadline)
        if not went:
            break
        gone += went
        give_back(deadline)
    return gone


def give_back(deadline: float) -> int:
    """Return freed pages to the disk, a slice at a time; returns how many."""
    pages = 0
    while time.monotonic() < deadline and (went := vendor_sql.give_back_space(_PAGES_AT_ONCE)):
        pages += went
    return pages


def _words(tables: list[str]) -> str:
    if not tables:
        return "nothing is left that may go before its time"
    return (
        "the oldest rows of "
        + ", ".join(table.removeprefix("telemetry_") for table in tables)
        + " went before their time"
    )
