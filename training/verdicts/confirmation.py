"""Confirming a suspicion by fresh runs: Welch's test on logarithms, a least effect, Holm's correction. Pure; no Django.

B. L. Welch, Biometrika 34 (1947); S. Holm, Scandinavian Journal of Statistics 6 (1979). Logarithms, as times vary by factors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from training.verdicts.screening import FEWEST
from training.verdicts.student import upper_tail

FRESH_RUNS = 5
ALPHA = 0.009  # Welch errs slightly more often than it says with so few runs: measured, this gives at most 1 % (docs/verdicts.md)
LEAST_EFFECT = 0.03
# A device as even as GPUs at rest (CV 1 %, seldom above 2 % from ten runs) shows less.
FINE_EFFECT, FINE_CV = 0.01, 0.02


class TooFew(ValueError):
    """There are not enough clean runs for a verdict; the text says of which."""


@dataclass(frozen=True, slots=True)
class Welch:
    """`t`, its degrees of freedom and the one-sided p of "fresh is worse"; `slowdown` = exp(difference of mean logs) − 1."""

    n_fresh: int
    n_baseline: int
    t: float
    df: float
    p: float
    slowdown: float
    least_effect: float


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome for one metric; `p_adjusted` is Holm's, over all metrics that were looked at."""

    welch: Welch
    p_adjusted: float

    @property
    def is_slow(self) -> bool:
        return self.p_adjusted < ALPHA and self.welch.slowdown > self.welch.least_effect


def welch(fresh: Sequence[float], baseline: Sequence[float], *, is_lower_better: bool = True) -> Welch:
    """Test whether `fresh` is worse than `baseline`, each positive and in one unit. Raises TooFew."""
    if len(fresh) < 2 or len(baseline) < FEWEST:
        raise TooFew(f"{len(fresh)} fresh and {len(baseline)} earlier runs: expected at least 2 and {FEWEST}")
    sign = 1.0 if is_lower_better else -1.0
    new, old = sign * np.log(np.asarray(fresh, float)), sign * np.log(np.asarray(baseline, float))
    difference = float(new.mean() - old.mean())
    spread_new, spread_old = float(new.var(ddof=1)) / len(new), float(old.var(ddof=1)) / len(old)
    least = FINE_EFFECT if float(old.std(ddof=1)) <= FINE_CV else LEAST_EFFECT
    error = (spread_new + spread_old) ** 0.5
    if error == 0:  # runs that agree to the last bit: the difference is certain, whichever it is
        t, df = (float("inf") if difference > 0 else 0.0), float(len(new) + len(old) - 2)
        return Welch(len(new), len(old), t, df, 0.0 if difference > 0 else 0.5, float(np.expm1(difference)), least)
    df = (spread_new + spread_old) ** 2 / (spread_new**2 / (len(new) - 1) + spread_old**2 / (len(old) - 1))
    t = difference / error
    return Welch(len(new), len(old), t, df, upper_tail(t, df), float(np.expm1(difference)), least)


def confirm(tests: Mapping[str, Welch]) -> dict[str, Finding]:
    """Return the finding of each metric, its p corrected for how many were looked at (Holm's step-down)."""
    ordered = sorted(tests.items(), key=lambda item: item[1].p)
    found, highest = {}, 0.0
    for place, (name, test) in enumerate(ordered):
        highest = max(highest, min(1.0, (len(ordered) - place) * test.p))
        found[name] = Finding(test, highest)
    return {name: found[name] for name in tests}
