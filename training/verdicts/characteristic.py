"""How often the procedure errs and how much it finds, by simulation with the very thresholds of this package. Pure numpy.

A trial draws `n` earlier runs of a healthy device, then of one that is slower by `slowdown` its regular runs (one to screen, the
newest `m` to test as a series) and `m` fresh ones. Called by `manage.py verdict_curves`, whose figures stand in docs/verdicts.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from training.verdicts.confirmation import ALPHA, FINE_CV, FINE_EFFECT, FRESH_RUNS, LEAST_EFFECT
from training.verdicts.screening import ALARM, CONSISTENT, FLEET_ALARM, FULL, SCALE_FLOOR
from training.verdicts.student import quantiles

BATCH = 20_000

Array = NDArray[np.float64]


class Noise(Protocol):
    """The logarithm of one run over its device's true value."""

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array: ...


@dataclass(frozen=True, slots=True)
class Lognormal:
    """Noise of a given coefficient of variation."""

    cv: float

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return rng.normal(0.0, float(np.sqrt(np.log1p(self.cv**2))), shape)


@dataclass(frozen=True)
class Measured:
    """Noise as a fleet shows it: `residuals` `(n_runs,)` are logs of runs over the median of their device's runs."""

    residuals: Array

    @property
    def cv(self) -> float:
        return float(np.sqrt(np.expm1(self.residuals.var(ddof=1))))

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return rng.choice(self.residuals, shape)


@dataclass(frozen=True, slots=True)
class Rates:
    """Shares of trials.

    `screened` and `screened_in_fleet`: one regular run is suspected by its z. `by_series`: the newest regular runs are, by
    Welch's test. `confirmed`: the fresh runs are judged slow, whatever came before. `found_by_one` and `found_by_series`:
    suspected so, and then judged slow. `found`: by either; of a sound device that is what one regular run more may cost.
    """

    slowdown: float
    screened: float
    screened_in_fleet: float
    by_series: float
    confirmed: float
    found_by_one: float
    found_by_series: float
    found: float
    trials: int


def curve(
    noise: Noise,
    slowdowns: Sequence[float],
    *,
    n: int = FULL,
    m: int = FRESH_RUNS,
    trials: int = 100_000,
    seed: int = 1,
) -> list[Rates]:
    """Return the rates at each slow-down (0.1: steps take 10 % longer; 0: a device like its peers)."""
    rng = np.random.default_rng(seed)
    return [_rates(noise, slowdown, n, m, trials, rng) for slowdown in slowdowns]


def _rates(noise: Noise, slowdown: float, n: int, m: int, trials: int, rng: np.random.Generator) -> Rates:
    counts, shift = np.zeros(7), np.log1p(slowdown)
    for start in range(0, trials, BATCH):
        size = min(BATCH, trials - start)
        old = noise.draw(rng, (size, n))
        regular, fresh = noise.draw(rng, (size, m)) + shift, noise.draw(rng, (size, m)) + shift
        z, series, slow = z_of(regular[:, -1], old), is_slow(regular, old), is_slow(fresh, old)
        is_alarm = z > ALARM
        events = (is_alarm, z > FLEET_ALARM, series, slow, is_alarm & slow, series & slow, (is_alarm | series) & slow)
        counts += [np.count_nonzero(event) for event in events]
    screened, in_fleet, by_series, confirmed, one, five, found = (float(count) / trials for count in counts)
    return Rates(slowdown, screened, in_fleet, by_series, confirmed, one, five, found, trials)


def z_of(one: Array, old: Array) -> Array:
    """As screening.screen, for many trials at once: `one` `(trials,)`, `old` `(trials, n)`, both logs."""
    values = np.exp(old)
    median = np.median(values, axis=1)
    spread = CONSISTENT * np.median(np.abs(values - median[:, None]), axis=1)
    z: Array = (np.exp(one) - median) / np.maximum(spread, SCALE_FLOOR * median)
    return z


def is_slow(fresh: Array, old: Array, *, alpha: float = ALPHA) -> NDArray[np.bool_]:
    """As confirmation.welch and confirm with one metric, for many trials at once."""
    m, n = fresh.shape[1], old.shape[1]
    difference = fresh.mean(axis=1) - old.mean(axis=1)
    deviation = old.std(axis=1, ddof=1)
    new, before = fresh.var(axis=1, ddof=1) / m, deviation**2 / n
    df = (new + before) ** 2 / (new**2 / (m - 1) + before**2 / (n - 1))
    least = np.where(deviation <= FINE_CV, FINE_EFFECT, LEAST_EFFECT)
    slow: NDArray[np.bool_] = (difference / np.sqrt(new + before) > quantiles(1 - alpha, df)) & (
        np.expm1(difference) > least
    )
    return slow
