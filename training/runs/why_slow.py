"""Who kept a run's ranks waiting and which of its steps were slow, by name, with what it cost and what may be why.

Called by pages and API: lays the verdicts of stragglers.py and slow_steps.py beside what telemetry saw in just that time.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from fleet import units
from fleet.models import Device
from telemetry.accounts import windows
from telemetry.prices.energy_rates import NO_PRICE, Rates
from training.figure import Figure
from training.models import Run
from training.runs import causes, slow_steps, stragglers
from training.runs.cause_evidence import Window, beside_others, evidence
from training.runs.causes import Causes, Evidence
from training.runs.members import Members
from training.runs.slow_steps import DATA, SlowStep
from training.runs.stragglers import Judgement, Straggler
from training.steps.columns import StepColumns, StepKind
from training.steps.statistics import GlobalSteps

_LOOKED_AT = 32  # devices, of which evidence is read at once
_LONGEST_MS = 1_800_000  # of a straggler's time: its last half hour


@dataclass(frozen=True, slots=True)
class NamedStraggler:
    """A verdict with its place. `n_gpus` wait for it; `gpu_seconds` is what they lost together, `joules` what they drew then."""

    straggler: Straggler
    host: str
    device: Device | None
    n_gpus: int
    gpu_seconds: float
    joules: Figure
    cost: Figure
    causes: Causes

    @property
    def place(self) -> str:
        if self.device is not None:
            return f"{self.host} {self.device.title}"
        return self.host or "an unknown host"

    @property
    def words(self) -> str:
        """Return the verdict as a sentence."""
        found = self.straggler
        since = units.utc(datetime.fromtimestamp(found.since_ms / 1000, UTC))
        when = f"since the first step seen, {since}" if found.is_from_the_first else f"since {since}"
        uneven = "; uneven work by design looks the same" if found.is_from_the_first else ""
        return (
            f"rank {found.rank} ({self.place}) computes {found.excess:.1%} longer than the median of the other "
            f"{found.n_waiting} ranks, {when}: {self.n_gpus} GPUs waited {units.duration(found.wait_seconds)} each, "
            f"{units.duration(self.gpu_seconds)} of GPU time{uneven}"
        )


@dataclass(frozen=True, slots=True)
class NamedSlowStep:
    """A slow step with the place that is to blame, where one is; the causes are those of the device that has the likeliest."""

    step: SlowStep
    host: str
    device: Device | None
    causes: Causes


@dataclass(frozen=True, slots=True)
class RunStragglers:
    """The verdicts over the window and, as `judgement`, how all ranks stand at its end; its `reason` says what cannot be told."""

    judgement: Judgement
    found: tuple[NamedStraggler, ...]


def run_stragglers(
    run: Run, who: Members, steps: StepColumns, now: datetime, *, limit: int = 10, rates: Rates | None = None
) -> RunStragglers:
    """Return who kept others waiting in these steps, the costliest first."""
    judgement = stragglers.judge(steps)
    if judgement.reason:
        return RunStragglers(judgement, ())
    found = (_named(run, who, steps, each, now, rates) for each in stragglers.episodes(steps, limit))
    return RunStragglers(judgement, tuple(found))


def run_slow_steps(
    run: Run, who: Members, steps: StepColumns, now: datetime, *, limit: int = 5, across: GlobalSteps | None = None
) -> list[NamedSlowStep]:
    """Return the steps that took far longer than those around them, the one that cost most first, with what may be why.

    `across` are the same steps across ranks, where the caller has them.
    """
    return [_named_step(who, each, now) for each in slow_steps.slow_steps(steps, limit, across)]


def _named(
    run: Run, who: Members, steps: StepColumns, found: Straggler, now: datetime, rates: Rates | None
) -> NamedStraggler:
    member = who.of_rank(found.rank)
    device = member.device if member else None
    others = [each for each in who.devices if device is None or each.pk != device.pk]
    n_gpus = max(len(others) if device else 0, found.n_waiting, (run.world_size or 0) - 1)
    joules, cost = _waited(found, others if device else [], n_gpus, rates or Rates.in_force())
    return NamedStraggler(
        straggler=found,
        host=member.host.name if member and member.host else "",
        device=device,
        n_gpus=n_gpus,
        gpu_seconds=found.wait_seconds * n_gpus,
        joules=joules,
        cost=cost,
        causes=_why_behind(who, steps, found, device, now),
    )


def _waited(found: Straggler, others: Sequence[Device], n_gpus: int, rates: Rates) -> tuple[Figure, Figure]:
    """Return joules and cost of the waiting devices while they waited: their mean power of that time, times how long."""
    start, end = int(found.since_ms), int(found.until_ms)
    why = "the devices that waited are not known" if not others else "their energy in this time is not known"
    if not others or start >= end:
        return Figure(None, "joules", why), Figure(None, rates.currency, why)
    drawn = windows.of_window(others, start, end, rates=rates)
    if not drawn.covered_seconds or drawn.joules is None:
        return Figure(None, "joules", why), Figure(None, rates.currency, why)
    part = found.wait_seconds * n_gpus / drawn.covered_seconds
    remark = "estimated: the mean power of the devices that waited, in that time, times how long they waited"
    cost = None if drawn.cost is None else drawn.cost * part
    no_price = NO_PRICE if cost is None else ""
    return Figure(drawn.joules * part, "joules", "", remark), Figure(cost, rates.currency, no_price, remark)


def _why_behind(who: Members, steps: StepColumns, found: Straggler, device: Device | None, now: datetime) -> Causes:
    whole = Window.around(found.since_ms, found.until_ms)
    window = whole._replace(start_ms=max(whole.start_ms, int(found.until_ms) - _LONGEST_MS))
    seen = _evidence(who, device, window, now)
    own = seen.pop(device.uuid) if device is not None else Evidence()
    if found.is_from_the_first and seen:
        own = beside_others(own, list(seen.values()))
    late = found.compute_seconds - found.others_seconds
    return causes.causes(replace(own, excess_seconds=late, data_excess_seconds=_data_excess(steps, found)))


def _data_excess(steps: StepColumns, found: Straggler) -> float | None:
    """Return how much longer the rank waits for data than the others, at the median; None where it is not told."""
    waited = steps.phases.get(DATA)
    if waited is None:
        return None
    inside = (steps.kind == StepKind.TRAIN) & (steps.ended_ms >= found.since_ms) & (steps.ended_ms <= found.until_ms)
    inside &= np.isfinite(waited)
    own, others = waited[inside & (steps.rank == found.rank)], waited[inside & (steps.rank != found.rank)]
    return float(np.median(own) - np.median(others)) if own.size and others.size else None


def _evidence(who: Members, device: Device | None, window: Window, now: datetime) -> dict[str, Evidence]:
    """Return the evidence of the device and of as many others of the run as are read at once."""
    others = [each for each in who.devices or who.nodes if device is None or each.pk != device.pk]
    chosen = [*([] if device is None else [device]), *others][:_LOOKED_AT]
    nodes = {node.host_id: node for node in who.nodes}
    return evidence(chosen, nodes, window, _pids(who), now)


def _pids(who: Members) -> Mapping[int, Collection[int]]:
    found: dict[int, set[int]] = {}
    for member in who.ranks:
        if member.host_id is not None and member.pid is not None:
            found.setdefault(member.host_id, set()).add(member.pid)
    return found


def _named_step(who: Members, step: SlowStep, now: datetime) -> NamedSlowStep:
    member = None if step.rank is None else who.of_rank(step.rank)
    device = member.device if member else None
    window = Window.around(step.began_ms, step.ended_ms)
    seen = _evidence(who, device, window, now)
    looked_at = [device] if device is not None else [each for each in who.devices or who.nodes if each.uuid in seen]
    judged = {each.pk: causes.causes(_of_step(seen[each.uuid], step)) for each in looked_at}
    if not judged:
        host = member.host.name if member and member.host else ""
        return NamedSlowStep(step, host, None, causes.causes(_of_step(Evidence(), step)))
    chief = max(looked_at, key=lambda each: cause.weight if (cause := judged[each.pk].likeliest) else 0.0)
    is_known = device is not None or judged[chief.pk].likeliest is not None
    return NamedSlowStep(step, chief.host.name if is_known else "", chief if is_known else None, judged[chief.pk])


def _of_step(seen: Evidence, step: SlowStep) -> Evidence:
    waited = step.data_seconds - step.usual_data_seconds
    return replace(
        seen,
        excess_seconds=step.seconds - step.usual_seconds,
        data_excess_seconds=None if np.isnan(waited) else waited,
    )
