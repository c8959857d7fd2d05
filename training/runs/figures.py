"""The figures of a run over a window: its steps, the energy of its own devices in the same time, and what these could do at most.

Asked by pages and API. All figures are of one window, `counted`: what was asked for, less what lies outside of the run's life.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict

from telemetry.prices.energy_rates import NO_CO2, NO_PRICE, Rates
from telemetry.series import trends
from training.figure import Figure, ratio
from training.models import Run
from training.runs import goodput
from training.runs.arithmetic import run_devices, run_flops
from training.runs.energy import RunEnergy, energy
from training.runs.goodput import Goodput
from training.runs.members import Members, members
from training.steps import statistics
from training.steps.columns import StepColumns
from training.steps.statistics import GlobalSteps, Phases, Rate, StepTimes
from training.steps.store import read
from training.utilisation.mfu import Mfu, mfu
from training.utilisation.ofu import METHOD, PipeSeries, ofu

_COLUMNS = ("number", "seconds", "compute_seconds", "samples", "tokens", "is_warmup", "kind", "attempt", "phases")
_COLUMNS_OF_RATES = ("seconds", "samples", "tokens", "is_warmup", "kind")
_OFU = ("tensor_active_ratio", "sm_clock_hertz", "sm_clock_max_hertz")
_OFU_POINTS = 400
_MOVED = "the run went on on other devices within this window: choose a window of one start"
_ENOUGH = 0.95  # of its time the energy must be known, or work per joule would look better than it is


@dataclass(frozen=True, slots=True)
class RunFigures:
    """All of one window, `counted_ms`, in UTC milliseconds; None where the run has no step in it.

    `steps` are those that ended in it, `across` the same across ranks. Rates are N/Δt over it; `…_in_steps` are over the time of
    training steps alone.
    `flops_per_sample` is None where a sample's FLOPs are not known; the denominator stands in `mfu_detail`.
    """

    counted_ms: tuple[int, int] | None
    n_steps: float
    steps: StepColumns
    across: GlobalSteps
    step_times: StepTimes
    phases: Phases
    goodput: Goodput
    samples_per_second: Figure
    tokens_per_second: Figure
    mfu: Figure
    mfu_in_steps: Figure
    mfu_detail: Mfu
    ofu: Figure
    energy: RunEnergy | None
    joules: Figure
    joules_per_step: Figure
    joules_per_token: Figure
    samples_per_joule: Figure
    tokens_per_joule: Figure
    cost: Figure
    grams_co2: Figure
    flops_per_sample: float | None
    n_lost: int

    @property
    def mean_watts(self) -> float | None:
        """Return what the devices drew together, at each time those that the run was on; None where nothing is covered."""
        if self.energy is None or self.counted_ms is None or not self.energy.account.covered_seconds:
            return None
        account, seconds = self.energy.account, (self.counted_ms[1] - self.counted_ms[0]) / 1000
        return (account.joules or 0.0) / account.covered_seconds * account.asked_seconds / seconds


def figures(
    run: Run, start_ms: int, end_ms: int, *, who: Members | None = None, rates: Rates | None = None
) -> RunFigures:
    """Return the figures of start ≤ time < end."""
    who, rates = who or members(run), rates or Rates.in_force()
    life = _life(run)
    counted = max(start_ms, life[0]), min(end_ms, life[1])
    reach_ms = who.reach_ms
    steps = read.steps(run, start_ms - reach_ms, end_ms + reach_ms, columns=_COLUMNS)
    spent = goodput.goodput(steps, start_ms, end_ms, life, _attempts_from(run, steps))
    return _figures(run, who, (start_ms, end_ms), counted if counted[0] < counted[1] else None, steps, spent, rates)


def utilisation(run: Run, start_ms: int, end_ms: int) -> Mfu:
    """Return the MFU alone of start ≤ time < end, which lies within the run's life; as `figures` has it."""
    who = members(run)
    steps = read.steps(run, start_ms, end_ms + who.reach_ms, columns=_COLUMNS_OF_RATES)
    samples, tokens = statistics.rates(steps, start_ms, end_ms, (end_ms - start_ms) / 1000).values()
    return _of_flops(run, _there(who, (start_ms, end_ms)), samples, tokens)["mfu_detail"]


def _life(run: Run) -> tuple[int, int]:
    """Return when its first step began and the last that is told ended.

    Also while it runs: whether it stands still since then, or has ended, is known when it tells the next one, or none for long.
    """
    last = run.last_step_at or run.started_at
    return int(run.started_at.timestamp() * 1000), -int(-last.timestamp() * 1000 // 1)


def _attempts_from(run: Run, steps: StepColumns) -> Mapping[int, int] | None:
    """Return the first number of each attempt over the whole run: a later start tells which work was lost."""
    if not run.restarts:
        return None
    return goodput.first_numbers(read.steps(run, columns=("number", "kind", "attempt")))


def _figures(
    run: Run, who: Members, asked: tuple[int, int], counted: tuple[int, int] | None, steps: StepColumns, spent: Goodput,
    rates: Rates,
) -> RunFigures:  # fmt: skip
    window, inside = counted or (0, 0), steps.between(*asked)
    across = statistics.global_steps(steps)
    n_steps, across_inside = statistics.n_inside(across, *window), across.between(*asked)
    samples, tokens = statistics.rates(steps, *window, spent.training_seconds).values()
    drawn, there = energy(run, who, *window, rates) if counted else None, _there(who, window)
    return RunFigures(
        counted_ms=counted,
        n_steps=n_steps,
        steps=inside,
        across=across_inside,
        step_times=statistics.step_times(across_inside),
        phases=statistics.phases(inside),
        goodput=spent,
        samples_per_second=_rate(samples, "samples_per_second"),
        tokens_per_second=_rate(tokens, "tokens_per_second"),
        ofu=_ofu(there, counted),
        energy=drawn,
        n_lost=who.n_lost,
        **_of_flops(run, there, samples, tokens),
        **_of_energy(drawn, n_steps, samples, tokens, rates.currency),
    )


def _there(who: Members, window: tuple[int, int]) -> Members | None:
    """Return who took part in the window; None where a later start within it was on other devices."""
    parts = [part for part, _, _ in who.by_time(*window)] or [who]
    return parts[0] if len({tuple(device.uuid for device in part.devices) for part in parts}) == 1 else None


def _rate(found: Rate, unit: str) -> Figure:
    parts = {} if found.amount is None else {"amount": found.amount, "seconds": found.seconds}
    why = "" if found.per_second is not None else found.reason
    return Figure(found.per_second, unit, why, found.reason if found.per_second is not None else "", parts)


class _OfFlops(TypedDict):
    mfu: Figure
    mfu_in_steps: Figure
    mfu_detail: Mfu
    flops_per_sample: float | None


def _of_flops(run: Run, there: Members | None, samples: Rate, tokens: Rate) -> _OfFlops:
    flops = run_flops(run.description, samples, tokens)
    if there is None:
        flops = flops._replace(flops=None, why=_MOVED)
    of_unit, devices = tokens if flops.unit == "tokens" else samples, run_devices(there) if there else []
    dtype = str(run.description.get("dtype") or "")
    found, in_steps = (
        mfu(flops.flops, rate, devices, dtype, flops.why) for rate in (of_unit.per_second, of_unit.per_step_second)
    )
    return {
        "mfu": _mfu(found), "mfu_in_steps": _mfu(in_steps), "mfu_detail": found, "flops_per_sample": flops.per_sample,
    }  # fmt: skip


def _mfu(found: Mfu) -> Figure:
    parts = {
        "achieved FLOP/s": found.achieved_flops_per_second,
        "peak FLOP/s": found.denominator.flops_per_second,
    }
    known = {name: value for name, value in parts.items() if value is not None}
    return Figure(found.ratio, "ratio", found.reason, "; ".join(found.doubts), known)


def _ofu(there: Members | None, counted: tuple[int, int] | None) -> Figure:
    if there is None:
        return Figure(None, "ratio", _MOVED)
    devices = there.devices
    if counted is None or not devices:
        return Figure(None, "ratio", "the devices of the run are not known" if counted else "no step in this window")
    block = trends.device_series(devices, _OFU, *counted, _OFU_POINTS)
    found = ofu([PipeSeries(*(block.of(device.uuid, name).mean for name in _OFU)) for device in devices])
    part = "" if found.n_devices == found.of_devices else f"; of {found.n_devices} of {found.of_devices} devices"
    return Figure(found.ratio, "ratio", found.reason, METHOD + part if found.ratio is not None else "")


def _of_energy(
    drawn: RunEnergy | None, n_steps: float, samples: Rate, tokens: Rate, currency: str
) -> dict[str, Figure]:
    account = drawn.account if drawn else None
    joules = account.joules if account else None
    why = drawn.why if drawn else "no step in this window"
    words = drawn.words if drawn else ""

    covered = account.covered_share if account else None
    short = (
        ""
        if why or covered is None or covered >= _ENOUGH
        else f"its energy is known for {covered:.0%} of the time only"
    )

    def of(above: float | None, below: float | None, unit: str, reason: str) -> Figure:
        remark = "; ".join(filter(None, [words, reason]))
        return ratio(above, below, unit, why or reason, remark) if not short else Figure(None, unit, short)

    return {
        "joules": Figure(joules, "joules", why, words),
        "joules_per_step": of(joules, n_steps, "joules", "" if n_steps else "no training step in this window"),
        "joules_per_token": of(joules, tokens.amount, "joules", tokens.reason),
        "samples_per_joule": of(samples.amount, joules, "samples_per_joule", samples.reason),
        "tokens_per_joule": of(tokens.amount, joules, "tokens_per_joule", tokens.reason),
        "cost": _known(account.cost if account else None, currency, why or NO_PRICE, words),
        "grams_co2": _known(account.grams_co2 if account else None, "grams", why or NO_CO2, words),
    }


def _known(value: float | None, unit: str, why: str, remark: str) -> Figure:
    return Figure(None, unit, why) if value is None else Figure(value, unit, remark=remark)
