"""How efficient the work of a time was, by run and by group: MFU, goodput, device hours, energy, cost. For the efficiency page.

A group is what a run says of itself, else its Slurm account or Unix group. Figures of groups are sums; MFU and goodput are means
by device hours of the runs that give them. All runs count: those that are over with what was kept of them (runs/lives.py), those
that go on, or began before the time did, with their part of it, which is worked out when the page is looked at.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256

from django.core.cache import cache

from fleet.turns import Turns
from telemetry.energy_rates import JOULES_PER_KWH, Rates
from training.models import Run
from training.runs import lives
from training.runs.doings import Doings, doings
from training.runs.queries import life_ms

_BUDGET_SECONDS = 0.05  # of a panel that is waited for: one run at least
_KEPT_SECONDS = 3600
_MINUTE_MS = 60_000
_STEPS_MS = ((7 * 24 * 60 * _MINUTE_MS, 60 * _MINUTE_MS), (24 * 60 * _MINUTE_MS, 15 * _MINUTE_MS))
_LATER = Doings(why="being worked out", why_not_idle="being worked out")
_NOT_TOLD = "could not be worked out; the server's log says why"
_FAILED = Doings(why=_NOT_TOLD, why_not_idle=_NOT_TOLD)
_AGAIN_SECONDS = 60  # a run whose figures could not be worked out is tried again


@dataclass(frozen=True, slots=True)
class Work:
    """What one run, or the runs of a group, did in the window. Each figure is None where it is not known (runs/doings.py)."""

    key: str
    runs: Sequence[Run]
    done: Doings = _LATER

    @property
    def run(self) -> Run:
        return self.runs[0]

    @property
    def later(self) -> str:
        """Return why there are no figures at all; "" where there are."""
        return self.done.why if self.done.why in (_LATER.why, _FAILED.why) else ""

    @property
    def kwh(self) -> float | None:
        return None if self.done.joules is None else self.done.joules / JOULES_PER_KWH


@dataclass(frozen=True, slots=True)
class Report:
    """`n_runs` had steps in the window, start ≤ time < end, of which the figures of `n_told` have been worked out."""

    works: list[Work]
    start_ms: int
    end_ms: int
    n_runs: int
    n_told: int

    @property
    def is_whole(self) -> bool:
        return self.n_told == self.n_runs

    @property
    def device_hours(self) -> float:
        """Those that are known; a work whose devices are not known adds none."""
        return sum(work.done.device_hours or 0 for work in self.works)

    @property
    def has_parts(self) -> bool:
        """Tell whether MFU, goodput and work per joule of any run are those of its end alone."""
        return any(work.done.part_seconds is not None for work in self.works)


def by_run(start_ms: int, end_ms: int, now: datetime, rates: Rates) -> Report:
    """Return the runs that had steps in the window, newest first; those for which the time did not suffice come next time."""
    start_ms, end_ms = whole_steps(start_ms, end_ms)
    start, end = (datetime.fromtimestamp(at / 1000, UTC) for at in (start_ms, end_ms))
    found = Run.objects.filter(started_at__lt=end, last_step_at__gt=start).order_by("-last_step_at", "-pk")
    runs = list(found.defer("description"))
    told = _told(runs, (start_ms, end_ms), now, rates, lives.kept(start, end, rates))
    works = [Work(run.name, [run], told.get(run.pk, _LATER)) for run in runs]
    return Report(works, start_ms, end_ms, len(runs), len(told))


def whole_steps(start_ms: int, end_ms: int) -> tuple[int, int]:
    """Return the window in whole minutes, of a day or more in whole quarters, of a week or more in whole hours.

    What runs did in their part of it need not be worked out anew each minute then.
    """
    step_ms = next((step for length, step in _STEPS_MS if end_ms - start_ms >= length), _MINUTE_MS)
    return start_ms // step_ms * step_ms, end_ms // step_ms * step_ms


def by_group(report: Report) -> Report:
    """Return the same work by group, by name."""
    groups: dict[str, list[Work]] = {}
    for work in report.works:
        groups.setdefault(work.run.group or work.run.owner or work.run.user, []).append(work)
    works = [_joined(key, groups[key]) for key in sorted(groups)]
    return Report(works, report.start_ms, report.end_ms, report.n_runs, report.n_told)


def _told(
    runs: Iterable[Run], window: tuple[int, int], now: datetime, rates: Rates, known: Mapping[int, Doings]
) -> Mapping[int, Doings]:
    """Return by run id what is kept of the runs, and what can be worked out of the others as far as the time suffices."""
    found: dict[int, Doings] = {}
    until = time.monotonic() + _BUDGET_SECONDS
    for run in runs:
        began, ended = life_ms(run, now)
        part = max(window[0], began), min(window[1], ended)
        done = known.get(run.pk) if part == (began, ended) and not run.is_running(now) else None
        done = done or _of_part(run, part, rates, until)
        if done is not None:
            found[run.pk] = done
    return found


def _of_part(run: Run, part: tuple[int, int], rates: Rates, until: float) -> Doings | None:
    key = f"run-did:{sha256(repr((run.pk, part, rates)).encode()).hexdigest()}"
    kept: Doings | None = cache.get(key)
    if kept is None and time.monotonic() < until:
        kept = _worked_out(run, part, rates)
        cache.set(key, kept, _AGAIN_SECONDS if kept == _FAILED else _KEPT_SECONDS)
    return kept


def _worked_out(run: Run, part: tuple[int, int], rates: Rates) -> Doings:
    with Turns[int]("working out the part of run").of(run.pk):
        return doings(run, *part, rates)
    return _FAILED


@dataclass(slots=True)
class _Mean:
    above: float = 0.0
    below: float = field(default=0.0)

    def add(self, value: float | None, weight: float | None) -> None:
        if value is not None and weight:
            self.above += value * weight
            self.below += weight

    @property
    def value(self) -> float | None:
        return self.above / self.below if self.below else None


def _joined(key: str, works: Sequence[Work]) -> Work:
    mfu, goodput, busy, wasted = _Mean(), _Mean(), _Mean(), _Mean()
    done = [work.done for work in works]
    for each in done:
        mfu.add(each.mfu_ratio, each.device_hours)
        goodput.add(each.goodput_ratio, each.device_hours)
        busy.add(each.busy_ratio, each.device_hours)
        wasted.add(each.idle_energy_ratio, each.joules)
    together = Doings(
        device_hours=_sum(each.device_hours for each in done),
        joules=_sum(each.joules for each in done),
        cost=_sum(each.cost for each in done),
        busy_ratio=busy.value,
        idle_energy_ratio=wasted.value,
        why_not_idle=next(each.why_not_idle for each in done),
        mfu_ratio=mfu.value,
        goodput_ratio=goodput.value,
        why="" if mfu.value is not None else next((each.why for each in done if each.why), "no run gives it"),
        part_seconds=min((each.part_seconds for each in done if each.part_seconds is not None), default=None),
    )
    return Work(key, [work.run for work in works], together)


def _sum(values: Iterable[float | None]) -> float | None:
    """Return the sum of those that are known; None where none is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
