"""How long a state metric stood at each of its values. Called by the API; reads no store of its own."""

import numpy as np

from telemetry.store.read import Column
from telemetry.store.samples import Samples


def seconds_per_value(found: Samples, first_ms: int, step_ms: int, n: int, hold_ms: int) -> dict[int, Column]:
    """Return seconds at each value per bucket, `(n,)` each; None in a bucket that no sample covers.

    A sample holds until the next one, at most `hold_ms`, so that a gap counts as nothing. `hold_ms` ≤ `step_ms`: what one
    sample covers lies in two buckets at most.
    """
    if not found.times_ms.size:
        return {}
    until = np.minimum(np.append(found.times_ms[1:], found.times_ms[-1] + hold_ms), found.times_ms + hold_ms)
    bucket = (found.times_ms - first_ms) // step_ms
    edge = first_ms + (bucket + 1) * step_ms
    inside, beyond = np.minimum(until, edge) - found.times_ms, np.maximum(until - edge, 0)
    values = found.values.astype(np.int64)
    seconds = {int(value): np.zeros(n) for value in np.unique(values)}
    for value, total in seconds.items():
        for covered, at in ((inside, bucket), (beyond, bucket + 1)):
            chosen = (values == value) & (at >= 0) & (at < n)
            total[:] += np.bincount(at[chosen], covered[chosen] / 1000, minlength=n)
    known = np.sum(list(seconds.values()), axis=0) > 0
    return {
        value: [x if there else None for x, there in zip(total.tolist(), known.tolist(), strict=True)]
        for value, total in seconds.items()
    }
