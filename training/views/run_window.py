"""The window of time of a run's page: the whole run, or the last of it; of one that has ended, before its end.

Called by the views of a run. `from` and `to` hold a zoomed window, as on every page with charts.
"""

from dataclasses import dataclass
from datetime import datetime

from django.core.exceptions import BadRequest
from django.http import QueryDict

from fleet import timerange
from training import run_queries
from training.models import Run
from training.run_members import Members

WHOLE = "run"
KEYS = (WHOLE, *timerange.RANGES)
_LEAST_MS = 1000


@dataclass(frozen=True, slots=True)
class RunWindow:
    """`start_ms` ≤ t < `end_ms`, UTC milliseconds; `key` is the range of the page that it belongs to."""

    key: str
    start_ms: int
    end_ms: int

    @property
    def words(self) -> str:
        return "whole run" if self.key == WHOLE else f"last {timerange.WORDS[self.key]}"

    @property
    def seconds(self) -> float:
        return (self.end_ms - self.start_ms) / 1000


def of_query(query: QueryDict, run: Run, now: datetime) -> RunWindow:
    """Return the window asked for. Raises BadRequest for one that does not exist."""
    key = query.get("range") or (timerange.DEFAULT if run.is_running(now) else WHOLE)
    if key not in KEYS:
        raise BadRequest(f"range: expected one of {', '.join(KEYS)}")
    if "from" in query or "to" in query:
        zoomed = timerange.of_query(_without_range(query), now)
        return RunWindow(key, zoomed.start_ms, zoomed.end_ms)
    return of_key(key, run, now)


def of_key(key: str, run: Run, now: datetime) -> RunWindow:
    """Return the window of a key in KEYS."""
    began, ended = run_queries.life_ms(run, now)
    start = began if key == WHOLE else max(began, ended - timerange.RANGES[key] * 1000)
    return RunWindow(key, min(start, ended - _LEAST_MS), ended)


def last_part(window: RunWindow, who: Members, most_steps: int) -> RunWindow:
    """Return the window, or the last part of it that holds about so many steps of all ranks, as the run's counts foretell."""
    first = min((rank.first_ms for rank in who.ranks), default=window.start_ms)
    last = max((rank.last_ms for rank in who.ranks), default=window.end_ms)
    n_steps = sum(rank.n_steps for rank in who.ranks)
    affordable = (last - first) * most_steps // n_steps if n_steps else window.end_ms - window.start_ms
    if affordable >= window.end_ms - window.start_ms:
        return window
    end = min(window.end_ms, last + 1) if last > window.start_ms else window.end_ms
    return RunWindow(window.key, max(window.start_ms, end - max(_LEAST_MS, affordable)), end)


def _without_range(query: QueryDict) -> QueryDict:
    plain = query.copy()
    plain.pop("range", None)
    return plain
