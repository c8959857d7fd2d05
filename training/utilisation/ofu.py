"""OFU, an estimate of how much of a device's tensor throughput is used, from telemetry alone. It is not MFU and never called so.

It sees every FLOP that the tensor pipe does, recomputed and padded ones too, and at no precision in particular. Pure numpy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

METHOD = "tensor-pipe activity × SM clock / maximum SM clock (arXiv 2605.20799): an estimate, within about 2 points of MFU there"


class PipeSeries(NamedTuple):
    """Of one device, on one time grid: `tensor_active_ratio`, `sm_clock_hertz`, `sm_clock_max_hertz`, each (n,), NaN unknown."""

    tensor_active_ratio: Floats
    sm_clock_hertz: Floats
    sm_clock_max_hertz: Floats


@dataclass(frozen=True, slots=True)
class Ofu:
    """The mean over devices and time; None with the reason. `n_devices` gave it, of `of_devices`."""

    ratio: float | None
    reason: str
    n_devices: int
    of_devices: int


def ofu(devices: Sequence[PipeSeries]) -> Ofu:
    """Return the mean of the devices' means over the times at which all three are known."""
    means = [mean for each in devices if (mean := _mean(each)) is not None]
    if not means:
        reason = (
            "no device of the run tells its tensor-pipe activity (GPM: Hopper and newer)" if devices else "no devices"
        )
        return Ofu(None, reason, 0, len(devices))
    return Ofu(float(np.mean(means)), "", len(means), len(devices))


def _mean(series: PipeSeries) -> float | None:
    values = series.tensor_active_ratio * series.sm_clock_hertz / series.sm_clock_max_hertz
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else None
