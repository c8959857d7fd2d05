"""The time range of a page, from its query string: `range=6h`, or `from` and `to` in UTC milliseconds.

Called by the views that show series. Imports no app.
"""

from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from django.core.exceptions import BadRequest
from django.http import QueryDict

RANGES = {"15m": 900, "1h": 3600, "6h": 21_600, "24h": 86_400, "7d": 604_800, "30d": 2_592_000}
WORDS = {"15m": "15 minutes", "1h": "hour", "6h": "6 hours", "24h": "24 hours", "7d": "7 days", "30d": "30 days"}
DEFAULT = "1h"
OF_SECTIONS = {"power": "7d", "efficiency": "7d"}  # what a page shows that speaks of days
_LONGEST_MS = 366 * 86_400_000
_LATEST_MS = 253_370_764_800_000  # the beginning of the year 9999, as for the API: dates end soon after


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A span of time, `start_ms` ≤ t < `end_ms`; `key` is the named range of the page that it belongs to.

    With `is_chosen` its ends were asked for, and the named range is that to which the page goes back. `since_ms` is where the
    earlier of the two begins: whatever part of it is looked at, a chart keeps the groups that it had since then.
    """

    key: str
    start_ms: int
    end_ms: int
    since_ms: int
    is_chosen: bool = False

    @property
    def words(self) -> str:
        return WORDS[self.key]

    @property
    def phrase(self) -> str:
        """Return "last 6 hours"."""
        return "chosen time" if self.is_chosen else f"last {self.words}"

    @property
    def label(self) -> str:
        """Return "6 h"."""
        return "chosen time" if self.is_chosen else f"{self.key[:-1]} {self.key[-1]}"


def midnight(now: datetime, zone: ZoneInfo) -> datetime:
    """Return the midnight at which the day of a moment began."""
    return now.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)


def of_query(query: QueryDict, now: datetime, default: str = DEFAULT) -> TimeRange:
    """Return the range asked for. Raises BadRequest for one that does not exist."""
    key = query.get("range", default)
    if key not in RANGES:
        raise BadRequest(f"range: expected one of {', '.join(RANGES)}")
    now_ms = int(now.timestamp() * 1000)
    named_ms = now_ms - RANGES[key] * 1000
    if "from" not in query and "to" not in query:
        return TimeRange(key, named_ms, now_ms, named_ms)
    try:
        start, end = int(query.get("from", "")), int(query.get("to", ""))
    except ValueError:
        raise BadRequest("from, to: expected milliseconds since 1970 (UTC)") from None
    if not 0 <= start < end <= start + _LONGEST_MS:
        raise BadRequest("from, to: expected a span of at most 366 days, its start before its end")
    if end > _LATEST_MS:
        raise BadRequest("from, to: expected times before the year 9999")
    return TimeRange(key, start, end, min(start, named_ms), is_chosen=True)
