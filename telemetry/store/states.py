"""How long a state metric stood at each of its values, from samples. Called by the reading."""

import numpy as np

from telemetry.store.samples import Floats, Samples


def seconds_per_value(found: Samples, first_ms: int, step_ms: int, n: int, hold_intervals: int) -> dict[int, Floats]:
    """Return seconds at each value per bucket, `(n,)` each; NaN in a bucket that no sample covers.

    A sample holds until the next one, at most `hold_intervals` of its own, so that a gap counts as nothing.
    """
    begins = found.times_ms
    if not begins.size:
        return {}
    longest = begins + hold_intervals * found.intervals_ms
    until = np.minimum(np.append(begins[1:], longest[-1]), longest)
    values, row = np.unique(found.values.astype(np.int64), return_inverse=True)
    bucket = (begins - first_ms) // step_ms
    milliseconds = np.zeros(values.size * n)
    while begins.size:
        edge = first_ms + (bucket + 1) * step_ms
        chosen = (bucket >= 0) & (bucket < n)
        inside = np.minimum(until, edge) - begins
        milliseconds += np.bincount((row * n + bucket)[chosen], inside[chosen], minlength=milliseconds.size)
        beyond = until > edge
        begins, until, row, bucket = edge[beyond], until[beyond], row[beyond], bucket[beyond] + 1
    seconds = milliseconds.reshape(values.size, n) / 1000
    seconds[:, ~seconds.any(axis=0)] = np.nan
    return dict(zip(values.tolist(), seconds, strict=True))
