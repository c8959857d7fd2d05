"""Student's t distribution by mpmath's regularised incomplete beta function. No Django; one of the few that know mpmath."""

from functools import lru_cache

import mpmath
import numpy as np
from numpy.typing import NDArray

_LARGEST = 1e9  # beyond any quantile that a verdict asks for
_GRID = 129  # points in 1/df at which `quantiles` computes; between them it is straight to four digits


def upper_tail(t: float, df: float) -> float:
    """Return P(T > t) for `df` > 0 degrees of freedom, which need not be whole.

    Abramowitz and Stegun 26.7.1: P(|T| > t) = I_x(df/2, 1/2) at x = df/(df + t²).
    """
    share = t * t / (df + t * t)
    if share < 0.5:  # 1 − x would lose the digits of a small t
        both = 1 - float(mpmath.betainc(0.5, df / 2, 0, share, regularized=True))
    else:
        both = float(mpmath.betainc(df / 2, 0.5, 0, 1 - share, regularized=True))
    return both / 2 if t >= 0 else 1 - both / 2


@lru_cache(maxsize=4096)
def quantile(p: float, df: float) -> float:
    """Return the t with P(T ≤ t) = p, for 0.5 ≤ p < 1, by bisection to twelve digits."""
    if not 0.5 <= p < 1 or df <= 0:
        raise ValueError(f"p {p} and df {df}: expected 0.5 ≤ p < 1 and df > 0")
    low, high = 0.0, 1.0
    while upper_tail(high, df) > 1 - p and high < _LARGEST:
        low, high = high, high * 4
    while high - low > 1e-12 * max(1.0, high):
        middle = (low + high) / 2
        low, high = (middle, high) if upper_tail(middle, df) > 1 - p else (low, middle)
    return (low + high) / 2


def quantiles(p: float, df: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `quantile` for each of `df` `(n,)`, all ≥ 2, interpolated in 1/df to three digits: for simulations."""
    if df.min() < 2:
        raise ValueError("df below 2: the quantile is too steep to be interpolated")
    return np.interp(1 / df, np.linspace(0.0, 0.5, _GRID), _grid(p))


@lru_cache(maxsize=8)
def _grid(p: float) -> tuple[float, ...]:
    inverse = np.linspace(0.0, 0.5, _GRID)
    return tuple(quantile(p, 1 / float(each) if each else _LARGEST) for each in inverse)
