"""Minute rollups from stored batches.

A late batch makes its minute dirty, and the minute is made again; never sums that a redelivery could double.
"""

import logging
import time

from django.db import DataError

from telemetry.store import write
from telemetry.wire import MessageInvalid

logger = logging.getLogger(__name__)
_SLICE = 200


def roll_up(budget_seconds: float) -> int:
    """Make the rollups of dirty minutes until none is left or the time is up; returns how many minutes were made."""
    done, deadline = 0, time.monotonic() + budget_seconds
    while time.monotonic() < deadline:
        minutes = write.dirty_minutes(_SLICE)
        for host_id, minute_ms in minutes:
            done += _roll_up(host_id, minute_ms)
            if time.monotonic() > deadline:
                return done
        if len(minutes) < _SLICE:
            return done
    return done


def _roll_up(host_id: int, minute_ms: int) -> bool:
    """Make one minute; False where it cannot be made. That one keeps no others waiting, and is tried when it is marked again."""
    try:
        write.roll_up_minute(host_id, minute_ms)
    except (MessageInvalid, DataError):
        logger.exception("minute %d of host %d cannot be rolled up; it is left as it was", minute_ms, host_id)
        write.leave_minute(host_id, minute_ms)
        return False
    return True
