"""Energy that an idle device wastes: what it draws below 5 % utilisation for over ten minutes. Pure; made for the rollups.

A stretch of idle minutes counts from its beginning, as soon as it has lasted for more than ten: its first minutes are booked in
that one, so that a minute, once made, needs no look ahead. A minute without samples ends a stretch: unknown is not idle.
"""

import numpy as np

from telemetry.store.samples import Floats

IDLE_BELOW = 0.05  # mean utilisation of a minute
LONGER_THAN = 10  # minutes
LOOK_BACK = LONGER_THAN + 1  # minutes before the first one that is wanted


def booked(utilisation: Floats, amounts: Floats) -> Floats:
    """Return what is wasted of `amounts (d, LOOK_BACK + n)` (joules, or seconds) in the last n minutes, `(d, n)`.

    `utilisation (d, LOOK_BACK + n)` is each minute's mean, 0 to 1, NaN where the minute has no sample.
    """
    is_idle = utilisation < IDLE_BELOW  # NaN is not
    n = amounts.shape[1] - LOOK_BACK
    windows = np.lib.stride_tricks.sliding_window_view(is_idle, LOOK_BACK, axis=1)[:, 1:]
    lasts = windows.all(axis=2)  # this minute and the ten before it
    began_here = lasts & ~is_idle[:, :n]  # and not the one before those: the stretch becomes long enough in this minute
    sums = np.lib.stride_tricks.sliding_window_view(np.nan_to_num(amounts), LOOK_BACK, axis=1)[:, 1:].sum(axis=2)
    found: Floats = np.where(began_here, sums, np.where(lasts, np.nan_to_num(amounts[:, LOOK_BACK:]), 0.0))
    return found
