"""The window of time of a run's page: the whole run, or the last of it; of one that has ended, before its end.

Called by the views of a run. `from` and `to` hold a zoomed window, as on every page with charts.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from django.core.exceptions import BadRequest
from django.http import QueryDict

from fleet import units
from fleet.pages import timerange
from training.models import Run
from training.runs import queries
from training.runs.members import Members

WHOLE = "run"
KEYS = (WHOLE, *timerange.RANGES)
MOST_STEPS = 3_000_000  # of all ranks, that a figure or a chart is made of
_LEAST_MS = 1000


@dataclass(frozen=True, slots=True)
class RunWindow:
    """`start_ms` ≤ t < `end_ms`, UTC milliseconds; `key` is the range of the page that it belongs to.

    One that `is_cut` is the last part of what was asked for.
    """

    key: str
    start_ms: int
    end_ms: int
    is_cut: bool = False
    is_chosen: bool = False

    @property
    def words(self) -> str:
        if self.is_cut:
            return f"the last {units.duration(self.seconds)}: more steps than are read at once"
        if self.is_chosen:
            return "chosen time"
        return self._named

    @property
    def unzoomed(self) -> str:
        """What is said once the chosen time is left again."""
        return self._named if self.is_chosen else self.words

    @property
    def _named(self) -> str:
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
        return RunWindow(key, zoomed.start_ms, zoomed.end_ms, is_chosen=True)
    return of_key(key, run, now)


def of_key(key: str, run: Run, now: datetime) -> RunWindow:
    """Return the window of a key in KEYS."""
    began, ended = queries.life_ms(run, now)
    start = began if key == WHOLE else max(began, ended - timerange.RANGES[key] * 1000)
    return RunWindow(key, min(start, ended - _LEAST_MS), ended)


def readable(window: RunWindow, who: Members) -> RunWindow:
    """Return the window, or the last part of it where it holds more steps than are read at once."""
    return last_part(window, who, MOST_STEPS)


def last_part(window: RunWindow, who: Members, most_steps: int) -> RunWindow:
    """Return the window, or the last part of it that holds about so many steps of all ranks."""
    n_steps = who.foreseen(window.start_ms, window.end_ms)
    if n_steps <= most_steps:
        return window
    last = max((rank.last_ms for rank in who.ranks), default=window.end_ms)
    end = max(window.start_ms + _LEAST_MS, min(window.end_ms, last + 1))
    start = max(window.start_ms, min(rank.first_ms for rank in who.ranks))
    return replace(
        window,
        start_ms=max(start, end - max(_LEAST_MS, (end - start) * most_steps // n_steps)),
        end_ms=end,
        is_cut=True,
    )


def _without_range(query: QueryDict) -> QueryDict:
    plain = query.copy()
    plain.pop("range", None)
    return plain
