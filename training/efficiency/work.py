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

from fleet.turns import Turns
from telemetry.prices.energy_rates import JOULES_PER_KWH, Rates
from training.models import Run
from training.runs import lives
from training.runs.doings import Doings, doings
from training.runs.kept import cache
from training.runs.queries import life_ms, of_cluster

_BUDGET_SECONDS = 0.05  # of a panel that is waited for: one run at least
_KEPT_SECONDS = 2 * 3600  # longer than the longest step of time: they are shown until the next ones are there
_MINUTE_MS = 60_000
_STEPS_MS = ((7 * 24 * 60 * _MINUTE_MS, 60 * _MINUTE_MS), (60 * _MINUTE_MS, 15 * _MINUTE_MS))
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
    def n_left(self) -> int:
        return self.n_runs - self.n_told

    @property
    def device_hours(self) -> float:
        """Those that are known; a work whose devices are not known adds none."""
        return sum(work.done.device_hours or 0 for work in self.works)

    @property
    def has_parts(self) -> bool:
        """Tell whether MFU, goodput and work per joule of any run are those of its end alone."""
        return any(work.done.part_seconds is not None for work in self.works)


def by_run(start_ms: int, end_ms: int, now: datetime, rates: Rates, cluster: str | None = None) -> Report:
    """Return the runs that had steps in the window, newest first; those for which the time did not suffice come next time.

    Of a `cluster` they are those in which any of its hosts takes part, each whole.

    Until then their figures are those of a step of time before, if these are kept.
    """
    start_ms, end_ms = whole_steps(start_ms, end_ms)
    start, end = (datetime.fromtimestamp(at / 1000, UTC) for at in (start_ms, end_ms))
    found = Run.objects.filter(started_at__lt=end, last_step_at__gt=start).order_by("-last_step_at", "-pk")
    if cluster is not None:
        found = found.filter(of_cluster(cluster))
    runs = list(found.defer("description"))
    told, before = _told(runs, (start_ms, end_ms), now, rates, lives.kept(start, end, rates))
    works = [Work(run.name, [run], told.get(run.pk) or before.get(run.pk, _LATER)) for run in runs]
    return Report(works, start_ms, end_ms, len(runs), len(told))


def whole_steps(start_ms: int, end_ms: int) -> tuple[int, int]:
    """Return the window in whole minutes, of an hour or more in whole quarters, of a week or more in whole hours.

    What runs did in their part of it need not be worked out anew each minute then.
    """
    step_ms = _step_ms(end_ms - start_ms)
    return start_ms // step_ms * step_ms, end_ms // step_ms * step_ms


def _step_ms(length_ms: int) -> int:
    return next((step for length, step in _STEPS_MS if length_ms >= length), _MINUTE_MS)


def by_group(report: Report) -> Report:
    """Return the same work by group, by name."""
    groups: dict[str, list[Work]] = {}
    for work in report.works:
        groups.setdefault(work.run.group or work.run.owner or work.run.user, []).append(work)
    works = [_joined(key, groups[key]) for key in sorted(groups)]
    return Report(works, report.start_ms, report.end_ms, report.n_runs, report.n_told)


def _told(
    runs: Iterable[Run], window: tuple[int, int], now: datetime, rates: Rates, known: Mapping[int, Doings]
) -> tuple[Mapping[int, Doings], Mapping[int, Doings]]:
    """Return by run id what they did, and what those did a step of time before for which there was no time left.

    One is worked out in any case, first of those of which nothing is known.
    """
    found: dict[int, Doings] = {}
    parts: dict[Run, tuple[int, int]] = {}
    step_ms = _step_ms(window[1] - window[0])
    keys, keys_before = dict[int, str](), dict[int, str]()
    for run in runs:
        began, ended = life_ms(run, now)
        part = max(window[0], began), min(window[1], ended)
        if part == (began, ended) and not run.is_running(now) and run.pk in known:
            found[run.pk] = known[run.pk]
            continue
        parts[run] = part
        keys[run.pk] = _key(run, part, rates)
        keys_before[run.pk] = _key(run, (max(window[0] - step_ms, began), min(window[1] - step_ms, ended)), rates)
    found |= _kept(keys)
    before = _kept({pk: key for pk, key in keys_before.items() if pk not in found})
    missing = sorted((run for run in parts if run.pk not in found), key=lambda run: run.pk in before)
    until = time.monotonic() + _BUDGET_SECONDS
    for n, run in enumerate(missing):
        if n and time.monotonic() >= until:
            break
        done = found[run.pk] = _worked_out(run, parts[run], rates)
        cache.set(keys[run.pk], done, _AGAIN_SECONDS if done == _FAILED else _KEPT_SECONDS)
    return found, before


def _key(run: Run, part: tuple[int, int], rates: Rates) -> str:
    return f"run-did:{sha256(repr((run.pk, part, rates)).encode()).hexdigest()}"


def _kept(keys: Mapping[int, str]) -> dict[int, Doings]:
    kept: Mapping[str, Doings] = cache.get_many(keys.values())
    return {pk: kept[key] for pk, key in keys.items() if key in kept}


def _worked_out(run: Run, part: tuple[int, int], rates: Rates) -> Doings:
    turns, done = Turns[int]("working out the part of run"), _FAILED
    with turns.of(run.pk):
        done = doings(run, *part, rates)
    return _FAILED if turns.failed else done


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
