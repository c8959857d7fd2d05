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
MOST_BLOCKS = 30  # of a ladder


class Word(StrEnum):
    FASTER = "faster"
    EQUIVALENT = "equivalent"
    SLOWER = "slower"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Speedup:
    """`k` with its 95 % interval over `n_blocks`; `low`, `high` None where fewer than FEWEST_BLOCKS paired.

    `blocks_to_decide` are those that would decide an undecided one if k and the noise are what they seem, None where it is
    decided, nothing is known of the noise, or MOST_BLOCKS would not do.
    """

    k: float
    low: float | None
    high: float | None
    n_blocks: int
    word: Word
    blocks_to_decide: int | None = None


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
    deviation = float(logs.std(ddof=1))
    half = quantile(0.975, n - 1) * deviation / n**0.5
    low, high = float(np.exp(logs.mean() - half)), float(np.exp(logs.mean() + half))
    word = _word(low, high)
    more = blocks_needed(deviation / 2**0.5, _room(k)) if word is Word.UNDECIDED else None
    return Speedup(k, low, high, n, word, more)


def _word(low: float, high: float) -> Word:
    if low > FASTER:
        return Word.FASTER
    if EQUIVALENT[0] <= low and high <= EQUIVALENT[1]:
        return Word.EQUIVALENT
    return Word.SLOWER if high < 1 / FASTER else Word.UNDECIDED


def _room(k: float) -> float:
    """Return how wide, as a logarithm, half of an interval around k may be for a word to be found."""
    if k > FASTER:
        return float(np.log(k / FASTER))
    if k < 1 / FASTER:
        return float(-np.log(k * FASTER))
    return float(min(np.log(EQUIVALENT[1] / k), np.log(k / EQUIVALENT[0])))


def with_compilation(step_seconds: float, compile_seconds: float, steps: int) -> float:
    """Return the mean time of a step, seconds, when compilation is spread over so many."""
    return step_seconds + compile_seconds / steps


def steps_to_pay(before_seconds: float, after_seconds: float, compile_seconds: float) -> int | None:
    """Return after how many steps compiling has paid for itself; None where the step did not become faster."""
    saved = before_seconds - after_seconds
    return int(np.ceil(compile_seconds / saved)) if saved > 0 else None


def blocks_needed(cv: float, half_width: float) -> int | None:
    """Return how many blocks give an interval of ± `half_width` (0.05: 5 %) where runs vary by `cv`: B = (t·√2·cv/h)².

    None where MOST_BLOCKS give none so narrow.
    """
    widths = ((n, quantile(0.975, n - 1) * 2**0.5 * cv / n**0.5) for n in range(FEWEST_BLOCKS, MOST_BLOCKS + 1))
    return next((n for n, width in widths if width <= half_width), None)
