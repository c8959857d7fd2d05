"""How efficient the work of a time was, by run and by group: MFU, goodput, device hours, energy, cost. For the efficiency page.

A group is what a run says of itself, else its Slurm account or Unix group. Figures of groups are sums; MFU and goodput are means
by device hours of the runs that give them.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import NamedTuple

from django.core.cache import cache

from telemetry.accounts import idle
from telemetry.accounts.accounts import Account, Scope
from telemetry.accounts.idle import IdleAccount
from telemetry.energy_rates import JOULES_PER_KWH, Rates
from training.models import Run
from training.runs import energy, summaries
from training.runs.members import Members, members
from training.runs.queries import life_ms
from training.runs.summaries import Summary

MOST_RUNS = 100
_BUDGET_SECONDS = 1.0
_KEPT_SECONDS = 3600
_STEP_MS = 60_000
_NO_QUARTER = "no whole quarter of an hour in which utilisation and energy are known"
_OF_METERS = "its devices are not known throughout, and a host's meter does not tell which of them idled"


@dataclass(frozen=True, slots=True)
class Work:
    """What one run, or the runs of a group, did in the window. Each figure is None where it is not known.

    `device_hours` are those of their devices while they were there; `joules` of the known part of them, `covered_share`.
    `busy` is the share of their time that is no idle waste, `idle` that of their energy which is: both of the whole quarters
    of an hour within; `why_not_idle` says why there is none.
    """

    key: str
    runs: Sequence[Run]
    device_hours: float | None = None
    joules: float | None = None
    covered_share: float | None = None
    cost: float | None = None
    busy: float | None = None
    idle: float | None = None
    why_not_idle: str = ""
    mfu: float | None = None
    goodput: float | None = None
    per_joule: float | None = None
    per_joule_unit: str = ""
    trend: Sequence[float | None] = ()
    why: str = ""

    @property
    def run(self) -> Run:
        return self.runs[0]

    @property
    def kwh(self) -> float | None:
        return None if self.joules is None else self.joules / JOULES_PER_KWH


@dataclass(frozen=True, slots=True)
class Report:
    """`n_runs` had steps in the window, of which the newest stand in `works`; `is_whole`: all figures were worked out in time."""

    works: list[Work]
    n_runs: int
    is_whole: bool

    @property
    def device_hours(self) -> float:
        """Those that are known; a work whose devices are not known adds none."""
        return sum(work.device_hours or 0 for work in self.works)


def by_run(start_ms: int, end_ms: int, now: datetime, rates: Rates) -> Report:
    """Return the runs that had steps in the window, newest first; those for which the time did not suffice come next time."""
    start_ms, end_ms = start_ms // _STEP_MS * _STEP_MS, end_ms // _STEP_MS * _STEP_MS
    start, end = (datetime.fromtimestamp(at / 1000, UTC) for at in (start_ms, end_ms))
    found = Run.objects.filter(started_at__lt=end, last_step_at__gt=start).order_by("-last_step_at", "-pk")
    runs = list(found[:MOST_RUNS])
    told = summaries.summaries(runs, end_ms - start_ms, now)
    accounts = _accounts(runs, start_ms, end_ms, now, rates)
    works = [_work(run, accounts.get(run.pk), told.get(run.pk)) for run in runs]
    return Report(works, found.count(), all(run.pk in told and run.pk in accounts for run in runs))


def by_group(report: Report) -> Report:
    """Return the same work by group, by name."""
    groups: dict[str, list[Work]] = {}
    for work in report.works:
        groups.setdefault(work.run.group or work.run.owner or work.run.user, []).append(work)
    return Report([_joined(key, groups[key]) for key in sorted(groups)], report.n_runs, report.is_whole)


class _Drawn(NamedTuple):
    """`idle` is None where meters of hosts stand for the devices: they do not tell which of them idled."""

    account: Account
    idle: IdleAccount | None


def _accounts(runs: Iterable[Run], start_ms: int, end_ms: int, now: datetime, rates: Rates) -> Mapping[int, _Drawn]:
    """Return what each run drew in its part of the window, as far as the time suffices; of devices, else of its hosts' meters."""
    found: dict[int, _Drawn] = {}
    until = time.monotonic() + _BUDGET_SECONDS
    for run in runs:
        began, ended = life_ms(run, now)
        window = max(start_ms, began), min(end_ms, ended)
        # A run that is over is asked for its own end, so that its account is made once.
        key = f"run-drew:{sha256(repr((run.pk, window, rates)).encode()).hexdigest()}"
        kept: _Drawn | None = cache.get(key)
        if kept is None and window[0] < window[1] and time.monotonic() < until:
            who = members(run)
            drawn = energy.energy(run, who, *window, rates)
            if drawn.scope is Scope.NODE:
                drawn.account.asked_seconds = 0.0  # hours of meters are no hours of devices
            kept = _Drawn(drawn.account, None if drawn.scope is Scope.NODE else _idle(who, *window))
            cache.set(key, kept, _KEPT_SECONDS)
        if kept is not None:
            found[run.pk] = kept
    return found


def _idle(who: Members, start_ms: int, end_ms: int) -> IdleAccount:
    """Return the waste of the devices, at each time of those on which the run was then."""
    whole = IdleAccount("")
    for part, since, until in who.by_time(start_ms, end_ms):
        found = idle.of_devices(part.devices, since, until)
        whole.known_seconds += found.known_seconds
        whole.known_joules += found.known_joules
        whole.total.add(found.total.joules, found.total.seconds, None)
    return whole


def _work(run: Run, drawn: _Drawn | None, summary: Summary | None) -> Work:
    known, found = drawn or _Drawn(Account(""), IdleAccount(""))
    waste = found or IdleAccount("")
    is_told = waste.known_seconds > 0
    return Work(
        key=run.name,
        runs=[run],
        device_hours=known.asked_seconds / 3600 or None,
        joules=known.joules,
        covered_share=known.covered_share,
        cost=known.cost,
        busy=1 - min(1.0, waste.total.seconds / waste.known_seconds) if is_told else None,
        idle=min(1.0, waste.total.joules / waste.known_joules) if waste.known_joules else None,
        why_not_idle=_NO_QUARTER if found else _OF_METERS,
        mfu=summary.mfu.value if summary else None,
        goodput=summary.goodput if summary else None,
        per_joule=summary.per_joule.value if summary else None,
        per_joule_unit=summary.per_joule.unit if summary else "",
        trend=summary.trend if summary else (),
        why=summary.mfu.why if summary else "being worked out",
    )


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
    for work in works:
        mfu.add(work.mfu, work.device_hours)
        goodput.add(work.goodput, work.device_hours)
        busy.add(work.busy, work.device_hours)
        wasted.add(work.idle, work.joules)
    return Work(
        key=key,
        runs=[work.run for work in works],
        device_hours=_sum(work.device_hours for work in works),
        joules=_sum(work.joules for work in works),
        cost=_sum(work.cost for work in works),
        busy=busy.value,
        idle=wasted.value,
        why_not_idle=next((work.why_not_idle for work in works if work.why_not_idle), _NO_QUARTER),
        mfu=mfu.value,
        goodput=goodput.value,
        why=next((work.why for work in works if work.why), "no run gives it"),
    )


def _sum(values: Iterable[float | None]) -> float | None:
    """Return the sum of those that are known; None where none is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
