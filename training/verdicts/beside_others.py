"""How the procedure does where a device has both baselines, its own history and other devices of its model. Pure numpy.

A suspicion may come from either; the fresh runs are tested against its own history if that raised it, else against the others.
Called by `manage.py verdict_curves --others N`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.verdicts.characteristic import BATCH, Array, Noise, is_slow, z_of
from training.verdicts.confirmation import ALPHA, FRESH_RUNS
from training.verdicts.screening import ALARM, FULL

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Whole:
    """Shares of trials: suspected by a regular run or the newest five, and then judged slow by fresh runs, too."""

    slowdown: float
    suspected: float
    found: float

    @property
    def found_of_suspected(self) -> float | None:
        return self.found / self.suspected if self.suspected else None


def rates(
    noise: Noise,
    slowdown: float,
    *,
    n_others: int,
    n: int = FULL,
    m: int = FRESH_RUNS,
    trials: int = 100_000,
    seed: int = 1,
) -> Whole:
    """Return the rates of a device that is slower by `slowdown`, with `n` runs of its own before and `n_others` of others."""
    rng, shift, counts = np.random.default_rng(seed), np.log1p(slowdown), np.zeros(2)
    for start in range(0, trials, BATCH):
        size = min(BATCH, trials - start)
        own, others = noise.draw(rng, (size, n)), noise.draw(rng, (size, n_others))
        regular, fresh = noise.draw(rng, (size, m)) + shift, noise.draw(rng, (size, m)) + shift
        by_own, by_others = _suspected(regular, own, others)
        is_found = np.where(by_own, is_slow(fresh, own), by_others & is_slow(fresh, others))
        counts += np.count_nonzero(by_own | by_others), np.count_nonzero(is_found)
    suspected, found = counts / trials
    return Whole(slowdown, float(suspected), float(found))


def _suspected(regular: Array, own: Array, others: Array) -> tuple[Flags, Flags]:
    """Return which trials each baseline makes suspicious: by the newest run, or where neither does, by all five (Holm)."""
    alarms = [z_of(regular[:, -1], base) > ALARM for base in (own, others)]
    strict = [is_slow(regular, base, alpha=ALPHA / 2) for base in (own, others)]
    plain = [is_slow(regular, base) for base in (own, others)]
    series = strict[0] | (strict[1] & plain[0]), strict[1] | (strict[0] & plain[1])
    is_any = alarms[0] | alarms[1]
    return np.where(is_any, alarms[0], series[0]), np.where(is_any, alarms[1], series[1])
