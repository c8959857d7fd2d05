"""How long a state metric stood at each of its values. Called by the API; reads no store of its own."""

import numpy as np

from telemetry.store.read import Column
from telemetry.store.samples import Samples


def seconds_per_value(found: Samples, first_ms: int, step_ms: int, n: int, hold_ms: int) -> dict[int, Column]:
    """Return seconds at each value per bucket, `(n,)` each; None in a bucket that no sample covers.

    A sample holds until the next one, at most `hold_ms`, so that a gap counts as nothing.
    """
    if not found.times_ms.size:
        return {}
    until = np.minimum(np.append(found.times_ms[1:], found.times_ms[-1] + hold_ms), found.times_ms + hold_ms)
    begins, values = found.times_ms, found.values.astype(np.int64)
    bucket = (begins - first_ms) // step_ms
    seconds = {int(value): np.zeros(n) for value in np.unique(values)}
    while begins.size:
        edge = first_ms + (bucket + 1) * step_ms
        inside = (np.minimum(until, edge) - begins) / 1000
        for value, total in seconds.items():
            chosen = (values == value) & (bucket >= 0) & (bucket < n)
            total[:] += np.bincount(bucket[chosen], inside[chosen], minlength=n)
        beyond = until > edge
        begins, until, values, bucket = edge[beyond], until[beyond], values[beyond], bucket[beyond] + 1
    known = np.sum(list(seconds.values()), axis=0) > 0
    return {
        value: [x if there else None for x, there in zip(total.tolist(), known.tolist(), strict=True)]
        for value, total in seconds.items()
    }
