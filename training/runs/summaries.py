"""A run in one row of a list: its newest figures over a window, and its throughput as a sparkline. Called by lists of runs.

What it costs is bounded: a window holds no more than so many steps of all ranks, as the run's own counts foretell; figures are
kept until the run has told more, and a list that has worked for its time leaves the rest to its next refresh.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from training.figure import Figure
from training.models import Run
from training.runs import figures as run_figures
from training.runs import stragglers
from training.runs.figures import RunFigures
from training.runs.kept import cache
from training.runs.members import Members, members
from training.runs.queries import life_ms
from training.steps import grid as step_grid

MOST_STEPS = 100_000  # of all ranks together, that a row may read
_TREND_POINTS = 48
_BUDGET_SECONDS = 0.05  # of a page that is waited for: one run at least
_SHOWN_SECONDS = 600  # figures of before are shown so long, the oldest of a page's rows are worked out first
_KEPT_SECONDS = 24 * 3600.0
_FRESH_SECONDS = 30  # figures of a run that goes on stay so long
_LEAST_MS, _MINUTE_MS, _DAY_MS = 1000, 60_000, 86_400_000
_BEFORE_SECONDS = 600  # what a day before came to is worked out so often
_JUDGED = 50_000  # of the newest steps of all ranks


@dataclass(frozen=True, slots=True)
class Summary:
    """Figures of the last part of a run, `window_ms` long; `trend` is work per second over it, None in gaps."""

    window_ms: int
    step_seconds: Figure
    throughput: Figure
    mfu: Figure
    per_joule: Figure
    joules: Figure
    trend: list[float | None]
    n_stragglers: int
    goodput: float | None


def summaries(
    runs: Iterable[Run], window_ms: int, now: datetime, budget_seconds: float | None = None
) -> Mapping[int, Summary]:
    """Return the rows' figures by run id; those for which the time did not suffice are some minutes old, or missing at first.

    One is worked out in any case: with no time at all one of which nothing is known yet.
    """
    found: dict[int, Summary] = {}
    seconds = _BUDGET_SECONDS if budget_seconds is None else budget_seconds
    until = time.monotonic() + seconds
    older: list[tuple[float, Run]] = []
    for run in runs:
        kept = cache.get(_key(run, window_ms, now))
        if kept is not None:
            found[run.pk] = kept
            continue
        at, before = cache.get(_key_before(run, window_ms), (0.0, None))
        older.append((at, run))
        if before is not None:
            found[run.pk] = before
    for n, (at, run) in enumerate(sorted(older, key=lambda each: each[0])):
        is_first = n == 0 and (seconds > 0 or not at)
        if not is_first and time.monotonic() >= until:
            break
        found[run.pk] = summary(run, window_ms, now)
        cache.set(_key(run, window_ms, now), found[run.pk], _FRESH_SECONDS if run.is_running(now) else _KEPT_SECONDS)
        cache.set(_key_before(run, window_ms), (time.monotonic(), found[run.pk]), _SHOWN_SECONDS)
    return found


def _key_before(run: Run, window_ms: int) -> str:
    return f"run-summary-before:{run.pk}:{window_ms}"


def _key(run: Run, window_ms: int, now: datetime) -> str:
    """Return what the figures depend on: of a run that goes on also the time, in so coarse steps."""
    at = int(now.timestamp() // _FRESH_SECONDS) if run.is_running(now) else run.last_step_at
    return f"run-summary:{run.pk}:{window_ms}:{at}".replace(" ", "")


def summary(run: Run, window_ms: int, now: datetime) -> Summary:
    """Return a run's figures of its last `window_ms`, worked out now."""
    began, ended = life_ms(run, now)
    return of_window(run, members(run), max(began, ended - window_ms), ended)


def day_before(run: Run, window_ms: int, now: datetime) -> Figure | None:
    """Return the work per joule over the same time the day before, kept for some minutes; None where it did not go then."""
    began, ended = life_ms(run, now)[0], int(now.timestamp() * 1000) - _DAY_MS
    if began > ended - window_ms:
        return None
    key = f"run-day-before:{run.pk}:{window_ms // _MINUTE_MS}:{ended // (1000 * _BEFORE_SECONDS)}"
    kept: Figure | None = cache.get(key)
    if kept is None:
        kept = of_window(run, members(run), ended - window_ms, ended).per_joule
        cache.set(key, kept, _BEFORE_SECONDS)
    return kept


def of_window(run: Run, who: Members, start_ms: int, ended: int) -> Summary:
    """Return the figures of a part of the run's life, or of its end where it holds more steps than may be read."""
    start = ended - _affordable_ms(who, ended - start_ms, ended)
    start = min(start, ended - _LEAST_MS)
    figures = run_figures.figures(run, start, ended, who=who)
    work = work_rate(figures)
    median = figures.step_times.median
    return Summary(
        window_ms=ended - start,
        step_seconds=Figure(median, "seconds", "" if median is not None else "no training step in this window"),
        throughput=work,
        mfu=figures.mfu,
        per_joule=figures.tokens_per_joule if work.unit == "tokens_per_second" else figures.samples_per_joule,
        joules=figures.joules,
        trend=_trend(figures, work.unit, start, ended),
        goodput=figures.goodput.share,
        n_stragglers=len(stragglers.judge(figures.steps.select(slice(-_JUDGED, None))).stragglers),
    )


def work_rate(figures: RunFigures) -> Figure:
    """Return what the loop's work is counted in: tokens where it tells them, else samples."""
    return figures.samples_per_second if figures.tokens_per_second.value is None else figures.tokens_per_second


def _affordable_ms(who: Members, window_ms: int, end_ms: int) -> int:
    """Return for how long a time the steps of all ranks may be read."""
    n_steps = who.foreseen(end_ms - window_ms, end_ms)
    return window_ms if n_steps <= MOST_STEPS else max(_LEAST_MS, window_ms * MOST_STEPS // n_steps)


def _trend(figures: RunFigures, unit: str, start_ms: int, end_ms: int) -> list[float | None]:
    """Return the work per second in equal parts of the window."""
    grid = step_grid.binned(figures.steps, start_ms, end_ms, _TREND_POINTS)
    values = grid.tokens_per_second if unit == "tokens_per_second" else grid.samples_per_second
    return [None if np.isnan(value) else value for value in values.tolist()]
