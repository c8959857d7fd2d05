"""When a reading that is not asked each tick is asked again. Used by the backends; between two asks its last value stands."""

KEPT_SECONDS = 5.0  # what changes slowly, or says nothing more when it is asked each second


def next_due(now: float, every_seconds: float) -> float:
    """Return the next multiple of the pace: a tick that comes a moment early does not put the reading off by a whole one."""
    return now + every_seconds - now % every_seconds if every_seconds else now
