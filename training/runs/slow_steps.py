"""Which steps of a run took far longer than those around them. Called by why_slow.py. Pure numpy, no Django.

A global step is slow where it took TIMES the median of the steps around it (blocks of 256) and lies DEVIATIONS robust standard
deviations above it.
"""

from dataclasses import dataclass

import numpy as np

from training.steps.columns import Floats, StepColumns, StepKind
from training.steps.statistics import GlobalSteps, global_steps

TIMES, DEVIATIONS = 1.2, 6.0
_BLOCK = 256
_FEWEST = 10  # steps, below which there is nothing usual
_CONSISTENT, _LEAST_SPREAD = 1.4826, 0.005
DATA = "data"


@dataclass(frozen=True, slots=True)
class SlowStep:
    """A slow global step, `usual_seconds` being the median around it.

    `rank` is the one that computed longest where ranks tell their compute time, else None: all of them were as slow.
    `data_seconds` is how long that rank (any rank) waited for data, `usual_data_seconds` the median of the run; NaN untold.
    """

    number: int
    attempt: int
    rank: int | None
    began_ms: float
    ended_ms: float
    seconds: float
    usual_seconds: float
    data_seconds: float
    usual_data_seconds: float

    @property
    def times(self) -> float:
        return self.seconds / self.usual_seconds


def slow_steps(steps: StepColumns, limit: int = 20, across: GlobalSteps | None = None) -> list[SlowStep]:
    """Return the slow steps, the one that cost most time first, at most `limit`; `across` are the same steps across ranks."""
    found = across or global_steps(steps)
    counted = np.flatnonzero(~found.is_warmup & np.isfinite(found.seconds) & (found.seconds > 0))
    seconds = found.seconds[counted]
    if seconds.size < _FEWEST:
        return []
    usual, spread = _around(seconds)
    slow = np.flatnonzero((seconds >= TIMES * usual) & (seconds >= usual + DEVIATIONS * spread))
    slow = slow[np.argsort(usual[slow] - seconds[slow], kind="stable")][:limit]
    if not slow.size:
        return []
    told = steps.phases.get(DATA, np.full(len(steps), np.nan))
    known = told[np.isfinite(told) & (steps.kind == StepKind.TRAIN)]
    usual_data = float(np.median(known)) if known.size else float("nan")
    is_slow = (steps.kind == StepKind.TRAIN) & np.isin(steps.number, found.number[counted[slow]])
    train, waited = steps.select(is_slow), told[is_slow]
    is_alone = bool(steps.rank.min() == steps.rank.max())
    return [
        _slow_step(
            train,
            waited,
            int(found.number[at]),
            int(found.attempt[at]),
            float(usual[place]),
            usual_data,
            is_alone=is_alone,
        )
        for place, at in zip(slow.tolist(), counted[slow].tolist(), strict=True)
    ]


def _around(seconds: Floats) -> tuple[Floats, Floats]:
    """Return the median and the robust standard deviation of the block that each step lies in, each `(n,)`."""
    usual, spread = np.empty(seconds.size), np.empty(seconds.size)
    n_blocks = max(1, round(seconds.size / _BLOCK))
    for block in np.array_split(np.arange(seconds.size), n_blocks):
        middle = np.median(seconds[block])
        deviation = _CONSISTENT * np.median(np.abs(seconds[block] - middle))
        usual[block], spread[block] = middle, max(deviation, _LEAST_SPREAD * middle)
    return usual, spread


def _slow_step(
    train: StepColumns,
    waited: Floats,
    number: int,
    attempt: int,
    usual_seconds: float,
    usual_data_seconds: float,
    *,
    is_alone: bool,
) -> SlowStep:
    of_step = np.flatnonzero((train.number == number) & (train.attempt == attempt))
    compute = train.compute_seconds[of_step]
    slowest = int(of_step[int(np.argmax(train.seconds[of_step]))])
    blamed = int(of_step[int(np.nanargmax(compute))]) if np.isfinite(compute).sum() > 1 else None
    at = slowest if blamed is None else blamed
    data = waited[of_step] if blamed is None else waited[[at]]
    known = data[np.isfinite(data)]
    return SlowStep(
        number=number,
        attempt=attempt,
        rank=int(train.rank[at]) if blamed is not None or is_alone else None,
        began_ms=float(train.began_ms[of_step].min()),
        ended_ms=float(train.ended_ms[of_step].max()),
        seconds=float(train.seconds[slowest]),
        usual_seconds=usual_seconds,
        data_seconds=float(known.max()) if known.size else float("nan"),
        usual_data_seconds=usual_data_seconds,
    )
