"""Factor k: how many times faster a rung is than the first one, by paired blocks of fresh processes. Pure; no Django.

d = ln(t₀/tᵢ) per block, k = exp(mean d), interval exp(mean ± t(0.975, B − 1)·s/√B). A percentile bootstrap would cover only 74 to
90 % with so few blocks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from training.verdicts.student import quantile

FEWEST_BLOCKS = 3
BLOCKS = 5
FASTER, EQUIVALENT = 1.02, (0.98, 1.02)


class Word(StrEnum):
    FASTER = "faster"
    EQUIVALENT = "equivalent"
    SLOWER = "slower"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Speedup:
    """`k` with its 95 % interval over `n_blocks`; `low`, `high` None where fewer than FEWEST_BLOCKS paired."""

    k: float
    low: float | None
    high: float | None
    n_blocks: int
    word: Word


def speedup(first: Sequence[float], rung: Sequence[float]) -> Speedup | None:
    """Compare times of a step, seconds, block by block; NaN where that process gave none. None where no block has both."""
    pairs = np.array([first, rung], np.float64)
    pairs = pairs[:, ~np.isnan(pairs).any(axis=0)]
    n = pairs.shape[1]
    if n == 0:
        return None
    logs = np.log(pairs[0] / pairs[1])
    k = float(np.exp(logs.mean()))
    if n < FEWEST_BLOCKS:
        return Speedup(k, None, None, n, Word.UNDECIDED)
    half = quantile(0.975, n - 1) * float(logs.std(ddof=1)) / n**0.5
    low, high = float(np.exp(logs.mean() - half)), float(np.exp(logs.mean() + half))
    return Speedup(k, low, high, n, _word(low, high))


def _word(low: float, high: float) -> Word:
    if low > FASTER:
        return Word.FASTER
    if EQUIVALENT[0] <= low and high <= EQUIVALENT[1]:
        return Word.EQUIVALENT
    return Word.SLOWER if high < 1 / FASTER else Word.UNDECIDED


def with_compilation(step_seconds: float, compile_seconds: float, steps: int) -> float:
    """Return the mean time of a step, seconds, when compilation is spread over so many."""
    return step_seconds + compile_seconds / steps


def steps_to_pay(before_seconds: float, after_seconds: float, compile_seconds: float) -> int | None:
    """Return after how many steps compiling has paid for itself; None where the step did not become faster."""
    saved = before_seconds - after_seconds
    return int(np.ceil(compile_seconds / saved)) if saved > 0 else None
