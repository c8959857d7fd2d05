"""What the wall time of a run went to: productive steps, and everything else told apart. Called by the figures. Pure numpy.

The kinds add up to the window. At a moment in which ranks do different things the first of these holds: a checkpoint, an
evaluation, another phase told outside of steps (while one rank writes, the others wait in their step), then training steps.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.steps.columns import Floats, StepColumns, StepKind
from training.steps.intervals import Intervals

_STALL_STEPS, _STALL_MS = 3.0, 1000.0  # a pause is a stall where it is longer than three usual steps, and than a second
_SPANS = 1000


class Spent(StrEnum):
    """What time went to. PRODUCTIVE is training that counts: no warm-up, and not done again later."""

    PRODUCTIVE = "productive"
    WARMUP = "warmup"
    REDONE = "redone"  # steps whose number a later start did again, from its checkpoint on
    CHECKPOINT = "checkpoint"
    EVALUATION = "evaluation"
    OTHER = "other"  # phases that the loop told outside of its steps
    RESTART = "restart"  # from the last that one start did to the first step of the next
    STALL = (
        "stall"  # nothing told for longer than three steps and a second, or a step that took as much longer than usual
    )
    BETWEEN = "between"  # shorter pauses between steps: what the loop does besides
    OUTSIDE = "outside"  # before the run's first step or after its end


_OF_KIND = {
    StepKind.CHECKPOINT: Spent.CHECKPOINT,
    StepKind.VALIDATION: Spent.EVALUATION,
    StepKind.OTHER: Spent.OTHER,
}


class Span(NamedTuple):
    start_ms: float
    end_ms: float
    spent: Spent


@dataclass(frozen=True, slots=True)
class Goodput:
    """Seconds by kind; `share` is that of PRODUCTIVE in what lies within the run's life, None where nothing does.

    `spans` are those of at least a second's note (no productive steps, no short pauses), the longest thousand, by time.
    """

    seconds: Mapping[Spent, float]
    share: float | None
    spans: tuple[Span, ...]
    remark: str = ""

    @property
    def training_seconds(self) -> float:
        """Return the time of training steps, whether their work counted or not."""
        return self.seconds[Spent.PRODUCTIVE] + self.seconds[Spent.WARMUP] + self.seconds[Spent.REDONE]


def goodput(
    steps: StepColumns, start_ms: float, end_ms: float, life_ms: tuple[float, float],
    attempts_from: Mapping[int, int] | None = None,
) -> Goodput:  # fmt: skip
    """Return what the window went to; `life_ms` is when the run's first step began and its last one ended.

    `attempts_from` is the first training step's number of each attempt, where it is known beyond these steps.
    """
    numbers = first_numbers(steps) if attempts_from is None else attempts_from
    first, last = max(start_ms, life_ms[0]), min(end_ms, life_ms[1])
    usual_ms = _usual_ms(steps)
    begun = _begun(steps, usual_ms)
    covered = Intervals.of(np.empty(0), np.empty(0))
    seconds, spans = dict.fromkeys(Spent, 0.0), list[Span]()
    before = 0.0
    for spent, mask in _in_order(steps, numbers):
        own = Intervals.of(begun[mask], steps.ended_ms[mask])
        covered = covered | own if covered.starts.size else own
        until = covered.within(first, last).length
        seconds[spent] = (until - before) / 1000
        before = until
        spans += _spans(own.within(first, last), spent)
    for spent, gaps in _gaps(steps, covered, life_ms, usual_ms, min(numbers, default=0)):
        inside = gaps.within(first, last)
        seconds[spent] = inside.length / 1000
        spans += _spans(inside, spent)
    within = max(0.0, last - first) / 1000
    seconds[Spent.OUTSIDE] = (end_ms - start_ms) / 1000 - within
    share = seconds[Spent.PRODUCTIVE] / within if within > 0 else None
    return Goodput(seconds, share, _longest(spans), _remark(numbers))


def first_numbers(steps: StepColumns) -> Mapping[int, int]:
    """Return the number of the first training step of each attempt."""
    is_train = steps.kind == StepKind.TRAIN
    numbers, attempts = steps.number[is_train], steps.attempt[is_train]
    return {attempt: int(numbers[attempts == attempt].min()) for attempt in _attempts(attempts)}


def _attempts(found: NDArray[np.int32]) -> list[int]:
    is_one = not found.size or found.min() == found.max()
    return [int(each) for each in (found[:1] if is_one else np.unique(found))]


def _in_order(steps: StepColumns, numbers: Mapping[int, int]) -> Iterator[tuple[Spent, NDArray[np.bool_]]]:
    """Yield the kinds that are there, with the steps that are of them."""
    n_of_kind = np.bincount(steps.kind, minlength=len(StepKind))
    for kind, spent in _OF_KIND.items():
        if n_of_kind[kind]:
            yield spent, steps.kind == kind
    train = steps.kind == StepKind.TRAIN
    redone = train & _is_redone(steps, numbers) if len(numbers) > 1 else np.zeros(0, bool)
    if redone.any():
        train &= ~redone
    for spent, mask in (
        (Spent.PRODUCTIVE, train & ~steps.is_warmup), (Spent.WARMUP, train & steps.is_warmup), (Spent.REDONE, redone),
    ):  # fmt: skip
        if mask.any():
            yield spent, mask


def _is_redone(steps: StepColumns, numbers: Mapping[int, int]) -> NDArray[np.bool_]:
    """Tell which steps a later attempt did again. One that counts from the run's beginning does not say where it resumed."""
    redone = np.zeros(len(steps), bool)
    begun = min(numbers.values())
    resumed = {attempt: number for attempt, number in numbers.items() if number > begun}
    for attempt, number in resumed.items():
        redone |= (steps.attempt < attempt) & (steps.number >= number)
    return redone


def _remark(numbers: Mapping[int, int]) -> str:
    if len(numbers) < 2:
        return ""
    first, *later = sorted(numbers)
    unclear = [attempt for attempt in later if numbers[attempt] <= numbers[first]]
    if not unclear:
        return ""
    return (
        f"start {unclear[0] + 1} counts its steps from {numbers[unclear[0]]} on: whether it did work again is not told"
    )


def _usual_ms(steps: StepColumns) -> float:
    train = steps.seconds[(steps.kind == StepKind.TRAIN) & ~steps.is_warmup]
    return float(np.median(train)) * 1000 if train.size else 0.0


def _begun(steps: StepColumns, usual_ms: float) -> Floats:
    """Return when the steps began their work: of a training step that hung, its last usual time is work, the rest a stall."""
    length = steps.seconds * 1000
    hung = np.flatnonzero(length > usual_ms + max(_STALL_MS, _STALL_STEPS * usual_ms))
    hung = hung[(steps.kind[hung] == StepKind.TRAIN) & ~steps.is_warmup[hung]]
    begun = steps.ended_ms - length
    begun[hung] = steps.ended_ms[hung] - usual_ms
    return np.asarray(begun)


def _gaps(
    steps: StepColumns, covered: Intervals, life_ms: tuple[float, float], usual_ms: float, first_attempt: int
) -> list[tuple[Spent, Intervals]]:
    """Return the pauses of the run's whole life, so that how a window cuts them changes nothing of what they are."""
    gaps = covered.between(*life_ms)
    if not gaps.starts.size:
        return []
    later = [attempt for attempt in _attempts(steps.attempt) if attempt > first_attempt]
    is_restart = np.zeros(gaps.starts.size, bool)
    for attempt in later:
        begun = steps.began_ms[steps.attempt == attempt].min()
        is_restart |= (gaps.starts < begun) & (begun <= gaps.ends)
    is_long = gaps.lengths > max(_STALL_MS, _STALL_STEPS * usual_ms)
    return [
        (Spent.RESTART, gaps.chosen(is_restart)),
        (Spent.STALL, gaps.chosen(~is_restart & is_long)),
        (Spent.BETWEEN, gaps.chosen(~is_restart & ~is_long)),
    ]


def _spans(found: Intervals, spent: Spent) -> list[Span]:
    if spent in {Spent.PRODUCTIVE, Spent.BETWEEN}:
        return []
    longest = np.argsort(found.lengths)[::-1][:_SPANS]
    return [Span(float(found.starts[place]), float(found.ends[place]), spent) for place in longest]


def _longest(spans: Sequence[Span]) -> tuple[Span, ...]:
    return tuple(sorted(sorted(spans, key=lambda span: span.start_ms - span.end_ms)[:_SPANS]))
