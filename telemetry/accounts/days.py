"""Days of a time zone, and what of rows of energy lies in each: they may begin within an hour. Pure; called by the accounts."""

from collections.abc import Iterator
from datetime import datetime, time, timedelta
from typing import Protocol, Self, TypeVar
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

QUARTER_MS = 900_000


class Rows(Protocol):
    """Buckets of one length, side by side or not, and what is known of each."""

    @property
    def starts_ms(self) -> NDArray[np.int64]: ...
    @property
    def step_ms(self) -> int: ...
    def of_buckets(self, places: list[int]) -> Self: ...
    def in_quarters(self) -> Self: ...


AnyRows = TypeVar("AnyRows", bound=Rows)


def between(start_ms: int, end_ms: int, zone: ZoneInfo) -> Iterator[tuple[str, int, int]]:
    """Yield each day of the span with the beginning and the end of what lies in it."""
    at = datetime.fromtimestamp(start_ms / 1000, zone)
    while (at_ms := round(at.timestamp() * 1000)) < end_ms:
        midnight = datetime.combine(at.date() + timedelta(days=1), time(), zone)
        yield at.date().isoformat(), at_ms, min(round(midnight.timestamp() * 1000), end_ms)
        at = midnight


def apart(rows: AnyRows, zone: ZoneInfo) -> tuple[dict[str, AnyRows], AnyRows | None]:
    """Return the rows by the day that their buckets lie in, and those whose buckets a midnight cuts; None where it cuts none.

    Offsets of time zones are whole quarters of an hour: only hours are ever cut.
    """
    found: dict[str, list[int]] = {}
    cut: list[int] = []
    last_ms = rows.step_ms - QUARTER_MS
    for place, start in enumerate(rows.starts_ms.tolist()):
        day = _day(start, zone)
        if last_ms > 0 and _day(start + last_ms, zone) != day:
            cut.append(place)
        else:
            found.setdefault(day, []).append(place)
    whole = {day: rows.of_buckets(places) for day, places in found.items()}
    return whole, rows.of_buckets(cut) if cut else None


def _day(at_ms: int, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(at_ms / 1000, zone).date().isoformat()
