"""Minute rollups from stored batches.

A late batch makes its minute dirty, and the minute is made again; never sums that a redelivery could double.
"""

import time

from telemetry.store import write

_SLICE = 200


def roll_up(budget_seconds: float) -> int:
    """Make the rollups of dirty minutes until none is left or the time is up; returns how many minutes were made."""
    done, deadline = 0, time.monotonic() + budget_seconds
    while time.monotonic() < deadline:
        minutes = write.dirty_minutes(_SLICE)
        for host_id, minute_ms in minutes:
            write.roll_up_minute(host_id, minute_ms)
            done += 1
            if time.monotonic() > deadline:
                return done
        if len(minutes) < _SLICE:
            return done
    return done
