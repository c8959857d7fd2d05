"""Silent corruption: a device whose losses differ from its peers' on the same seed, model and software. Pure numpy; no Django.

Two sums in another order differ in their last digits, and training makes that grow step by step; so the tolerance begins small,
grows with the steps, and is never below a multiple of what the peers differ among themselves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

FEWEST_PEERS = 2  # other devices that agree: of two that differ nobody can say which is wrong
_PEER_MULTIPLE = 6.0
# Of the first loss, at the first step. Sound CPUs agree to 4e-7 over 45 steps (docs/verdicts.md); a GPU's library may choose
# another algorithm for the same convolution, whose rounding differs more.
_START = {"fp32": 1e-4, "tf32": 1e-3, "bf16": 2e-3, "fp16": 2e-3}
_START_OTHER = 2e-3
_START_CPU = 1e-5
_DOUBLES_EVERY = 16.0  # steps in which the difference of two sound devices may double
_LARGEST = 0.1

Curve = NDArray[np.float64]


class Agreement(StrEnum):
    SAME = "same losses"
    DIFFERS = "differs"
    UNKNOWN = "not compared"


@dataclass(frozen=True, slots=True)
class Comparison:
    """`at_step` (from 0) is where it first leaves the tolerance, `difference` and `tolerance` there, relative to the first loss.

    Where nothing leaves it, the three tell of the step that comes nearest. `reference` is the peers' median curve.
    """

    agreement: Agreement
    reason: str
    n_peers: int
    at_step: int | None = None
    difference: float | None = None
    tolerance: float | None = None
    reference: tuple[float, ...] = ()


def compare(
    losses: Sequence[float], peers: Mapping[str, Sequence[float]], precision: str, *, is_cpu: bool = False
) -> Comparison:
    """Return how a device's losses stand to those of other devices, one curve each; NaN is a step whose loss did not arrive.

    An infinite loss is a difference; a job whose loss is no number at its end fails by itself.
    """
    if len(peers) < FEWEST_PEERS:
        return Comparison(
            Agreement.UNKNOWN, f"{len(peers)} other devices ran it with this seed, {FEWEST_PEERS} needed", len(peers)
        )
    n = min(len(losses), *(len(curve) for curve in peers.values()))
    others = np.array([list(curve)[:n] for curve in peers.values()], np.float64)
    mine = np.asarray(losses, np.float64)[:n]
    known = ~np.isnan(others).any(axis=0) & ~np.isnan(mine)
    if not known.any():
        return Comparison(Agreement.UNKNOWN, "no step whose loss is known of all", len(peers))
    start = _START_CPU if is_cpu and precision == "fp32" else _START.get(precision, _START_OTHER)
    reference, tolerance = _band(others, known, start)
    difference = np.where(known, np.abs(mine - reference), 0.0) / _scale(reference, known)
    return _judged(difference, tolerance, reference, len(peers))


def _band(others: Curve, known: NDArray[np.bool_], start: float) -> tuple[Curve, Curve]:
    """Return the peers' median `(n_steps,)` and the relative tolerance about it.

    The spread is the median of the peers' distances: one corrupt peer among them does not widen it.
    """
    reference = np.median(others, axis=0)
    spread = np.median(np.abs(others - reference), axis=0) / _scale(reference, known)
    steps = np.arange(others.shape[1])
    floor = np.minimum(start * 2 ** (steps / _DOUBLES_EVERY), _LARGEST)
    return reference, np.maximum(floor, _PEER_MULTIPLE * np.maximum.accumulate(np.nan_to_num(spread)))


def _scale(reference: Curve, known: NDArray[np.bool_]) -> float:
    return max(abs(float(reference[known][0])), 1e-12)


def _judged(difference: Curve, tolerance: Curve, reference: Curve, n_peers: int) -> Comparison:
    beyond = np.flatnonzero(difference > tolerance)
    at = int(beyond[0]) if len(beyond) else int(np.argmax(difference / tolerance))
    agreement = Agreement.DIFFERS if len(beyond) else Agreement.SAME
    words = (
        f"its loss differs from {n_peers} other devices' by {difference[at]:.2g} of the first loss at step {at + 1}, "
        f"tolerance {tolerance[at]:.2g}"
    )
    return Comparison(
        agreement,
        words if len(beyond) else "",
        n_peers,
        at,
        float(difference[at]),
        float(tolerance[at]),
        tuple(reference.tolist()),
    )
