"""What one run did in a part of its life: device hours, energy, cost, idle waste, MFU, goodput. Asked by the efficiency page.

Of a run that is over, all of its life is worked out once (lives.py); of others the part that lies in the window.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from telemetry.accounts import idle
from telemetry.accounts.account import Account, Scope
from telemetry.accounts.idle import IdleAccount
from telemetry.prices.energy_rates import Rates
from training.models import Run
from training.runs import energy, summaries
from training.runs.members import Members, members
from training.runs.summaries import Summary

_NO_QUARTER = "no whole quarter of an hour in which utilisation and energy are known"
_OF_METERS = "its devices are not known throughout, and a host's meter does not tell which of them idled"


@dataclass(frozen=True, slots=True)
class Doings:
    """Each figure is None where it is not known; what lies in the names is their unit.

    `device_hours` are those of its devices while they were there; `joules` of the known part of them, `covered_ratio`.
    `busy_ratio` is the share of their time that is no idle waste, `idle_energy_ratio` that of their energy which is: both of
    the whole quarters of an hour within; `why_not_idle` says why there is none, `why` the same of MFU. MFU, goodput and
    `per_joule` are of the last `part_seconds` where that is not None: the steps of all the time were too many to read.
    """

    device_hours: float | None = None
    joules: float | None = None
    covered_ratio: float | None = None
    cost: float | None = None
    busy_ratio: float | None = None
    idle_energy_ratio: float | None = None
    why_not_idle: str = ""
    mfu_ratio: float | None = None
    goodput_ratio: float | None = None
    per_joule: float | None = None
    per_joule_unit: str = ""
    why: str = ""
    part_seconds: float | None = None
    trend: Sequence[float | None] = ()


def doings(run: Run, start_ms: int, end_ms: int, rates: Rates) -> Doings:
    """Return what the run did in start ≤ time < end, which lies in its life and is not empty."""
    who = members(run)
    drawn = energy.energy(run, who, start_ms, end_ms, rates)
    waste = None if drawn.scope is Scope.NODE else _idle(who, start_ms, end_ms)
    asked_seconds = 0.0 if drawn.scope is Scope.NODE else drawn.account.asked_seconds  # hours of meters are no devices'
    told = summaries.of_window(run, who, start_ms, end_ms)
    return _doings(drawn.account, asked_seconds, waste, told, end_ms - start_ms)


def _doings(account: Account, asked_seconds: float, waste: IdleAccount | None, told: Summary, length_ms: int) -> Doings:
    found = waste or IdleAccount("")
    busy = 1 - min(1.0, found.total.seconds / found.known_seconds) if found.known_seconds > 0 else None
    return Doings(
        device_hours=asked_seconds / 3600 or None,
        joules=account.joules,
        covered_ratio=account.covered_seconds / asked_seconds if asked_seconds else None,
        cost=account.cost,
        busy_ratio=busy,
        idle_energy_ratio=min(1.0, found.total.joules / found.known_joules) if found.known_joules else None,
        why_not_idle=_OF_METERS if waste is None else _NO_QUARTER,
        mfu_ratio=told.mfu.value,
        goodput_ratio=told.goodput,
        per_joule=told.per_joule.value,
        per_joule_unit=told.per_joule.unit,
        why=told.mfu.why,
        part_seconds=told.window_ms / 1000 if told.window_ms < length_ms else None,
        trend=told.trend,
    )


def _idle(who: Members, start_ms: int, end_ms: int) -> IdleAccount:
    """Return the waste of the devices, at each time of those on which the run was then."""
    whole = IdleAccount("")
    for part, since, until in who.by_time(start_ms, end_ms):
        found = idle.of_devices(part.devices, since, until)
        whole.known_seconds += found.known_seconds
        whole.known_joules += found.known_joules
        whole.total.add(found.total.joules, found.total.seconds, None)
    return whole
