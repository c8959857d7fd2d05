"""What a run did beside measured training, as spans of time: warm-up, evaluation, checkpoints, restarts. numpy only, no Django.

Called by the run page's charts, which mark them, and by whoever asks what a pause was.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from training.steps.columns import Floats, StepColumns, StepKind

WORDS = {StepKind.VALIDATION: "evaluation", StepKind.CHECKPOINT: "checkpoint", StepKind.OTHER: "other"}
RESTART, WARMUP = "restart", "warm-up"


@dataclass(frozen=True, slots=True)
class Span:
    """UTC milliseconds; `kind` is one of WORDS, RESTART or WARMUP."""

    kind: str
    start_ms: float
    end_ms: float


def spans(steps: StepColumns, merge_ms: float) -> list[Span]:
    """Return the spans in order of time. Those of one kind that are at most `merge_ms` apart are one."""
    found = [
        Span(words, start, end)
        for kind, words in WORDS.items()
        for start, end in _merged(steps.of_kind(kind), merge_ms)
    ]
    found += [Span(WARMUP, start, end) for start, end in _merged(steps.select(steps.is_warmup), merge_ms)]
    return sorted([*found, *_restarts(steps)], key=lambda span: span.start_ms)


def _merged(steps: StepColumns, merge_ms: float) -> list[tuple[float, float]]:
    if not len(steps):
        return []
    began = steps.began_ms
    order = np.argsort(began, kind="stable")
    start, reach = began[order], np.maximum.accumulate(steps.ended_ms[order])
    breaks = np.flatnonzero(start[1:] - reach[:-1] > merge_ms) + 1
    starts: Floats = start[np.concatenate(([0], breaks))]
    ends: Floats = reach[np.concatenate((breaks - 1, [start.size - 1]))]
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def _restarts(steps: StepColumns) -> list[Span]:
    """Return the time from the last step of an attempt to the first of the next one."""
    found = []
    attempts = np.flatnonzero(np.bincount(steps.attempt)).tolist() if len(steps) else []
    for before, after in pairwise(attempts):
        ended = float(steps.ended_ms[steps.attempt == before].max())
        again = steps.attempt == after
        began = float((steps.ended_ms[again] - steps.seconds[again] * 1000).min())
        if began > ended:
            found.append(Span(RESTART, ended, began))
    return found
