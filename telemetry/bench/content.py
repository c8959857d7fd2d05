"""What a series of readings is, in few bytes: so that what was sent can be compared with what is stored. No Django."""

import hashlib
from collections.abc import Iterable

from telemetry.decoding.matrix import Steps


def digest_of(series: Iterable[tuple[Steps, Steps]]) -> str:
    """Return the digest of a device's (times_ms, steps), both `(n,) int64`, by metric in the order of signals.METRICS."""
    digest = hashlib.sha256()
    for times_ms, steps in series:
        digest.update(times_ms.tobytes())
        digest.update(steps.tobytes())
    return digest.hexdigest()
