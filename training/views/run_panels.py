"""The panels of a run's page beside its charts: phases, wall time, slow steps. Called by the run's view; asks nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from django.urls import reverse

from fleet import units
from training.runs import charts
from training.runs.causes import Causes
from training.runs.goodput import Goodput, Spent
from training.runs.slow_steps import TIMES
from training.runs.why_slow import NamedSlowStep
from training.steps.statistics import Phases

_SHOWN_CAUSES = 3
_LEAST_REST = 0.001  # of the step time: below that the phases tell all of it
_WIDTH = 1000  # of the bar, in its own units
LABELS: Mapping[Spent, str] = {
    Spent.PRODUCTIVE: "productive steps",
    Spent.WARMUP: "warm-up",
    Spent.REDONE: "steps done again",
    Spent.EVALUATION: "evaluation",
    Spent.CHECKPOINT: "checkpoint",
    Spent.OTHER: "other phases",
    Spent.RESTART: "restart",
    Spent.STALL: "stall",
    Spent.BETWEEN: "between steps",
}


@dataclass(frozen=True, slots=True)
class PhaseRow:
    """A phase: its share of step time, and as many seconds of the median step; `color` is a class."""

    name: str
    color: str
    seconds: float | None
    share: float


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the wall time: its place and width in the bar, its seconds and share."""

    key: str
    label: str
    x: int
    width: int
    seconds: float
    share: float


@dataclass(frozen=True, slots=True)
class WallTime:
    words: str
    parts: list[Part]
    remark: str
    why: str


@dataclass(frozen=True, slots=True)
class SlowRow:
    """A slow step: which, when, how long, of which rank, and what may be why with what was seen of it."""

    number: int
    at: datetime
    seconds: float
    times: float
    times_words: str
    where: str
    href: str
    cause: str
    evidence: list[str]


@dataclass(frozen=True, slots=True)
class SlowSteps:
    words: str
    rows: list[SlowRow]
    why: str


def phase_rows(found: Phases, median_seconds: float | None) -> list[PhaseRow]:
    """Return the phases in the order of the chart's stack, and last what none of them tells."""
    if not found.shares:
        return []
    colors = charts.phase_colors(stacked_phases(found))
    shares = {**found.shares, charts.REST: found.untold_share or 0.0}
    classes = {name: name for name in charts.PHASES} | {charts.REST: "rest"}
    return [
        PhaseRow(
            name=name,
            color=f"c-{classes.get(name, color)}",
            seconds=None if median_seconds is None else median_seconds * shares[name],
            share=shares[name],
        )
        for name, color in colors.items()
    ]


def stacked_phases(found: Phases) -> list[str]:
    """Return the phases that the loop tells, and REST where they leave more of its steps than rounding."""
    return [*found.shares, *([charts.REST] if found.shares and (found.untold_share or 0.0) >= _LEAST_REST else [])]


def wall_time(found: Goodput) -> WallTime:
    """Return what the window went to, of the time that lies within the run's life."""
    lived: dict[Spent, float] = {kind: s for kind, s in found.seconds.items() if kind is not Spent.OUTSIDE}
    whole = sum(lived.values())
    if whole <= 0 or found.share is None:
        return WallTime("", [], "", "The run did not go on within this window.")
    parts, x = [], 0.0
    for spent, label in LABELS.items():
        share = lived.get(spent, 0.0) / whole
        if share > 0:
            width = share * _WIDTH
            parts.append(Part(spent.value, label, round(x), max(1, round(x + width) - round(x)), lived[spent], share))
            x += width
    words = f"{units.quantity(found.share, 'ratio')} goodput of {units.duration(whole)}"
    return WallTime(words, parts, found.remark, "")


def slow_rows(found: Sequence[NamedSlowStep]) -> SlowSteps:
    """Return the slow steps, the one that cost most first."""
    if not found:
        return SlowSteps("", [], f"No step took {TIMES:g} times the median of those around it.")
    words = f"at least {TIMES:g} times the median around them, those that cost most first"
    return SlowSteps(words, [_slow_row(each) for each in found], "")


def _slow_row(found: NamedSlowStep) -> SlowRow:
    step, device = found.step, found.device
    place = " ".join(part for part in (found.host, device.title if device else "") if part)
    rank = "" if step.rank is None else f"rank {step.rank}"
    return SlowRow(
        number=step.number,
        at=datetime.fromtimestamp(step.ended_ms / 1000, UTC),
        seconds=step.seconds,
        times=step.times,
        times_words=f"× {step.times:.2f}",
        where=", ".join(part for part in (rank, place) if part) or "all ranks alike",
        href=reverse("device", args=[device.uuid]) if device else "",
        cause=found.causes.words,
        evidence=_evidence(found.causes),
    )


def _evidence(causes: Causes) -> list[str]:
    """Return what was seen of the likeliest cause, and in short what else may be why."""
    if causes.likeliest is None:
        return []
    others = [f"{each.words}: {each.evidence}" for each in causes.found[1:_SHOWN_CAUSES]]
    return [causes.likeliest.evidence, *others]


def phase_names(one: Phases, other: Phases) -> list[str]:
    """Return the phases of either, in the order of the stack."""
    return list(charts.phase_colors(list(dict.fromkeys([*one.shares, *other.shares]))))
