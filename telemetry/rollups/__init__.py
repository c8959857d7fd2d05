"""Statistics over buckets: minutes from samples, quarters of an hour from minutes, hours from quarters; of hosts and of groups.

Called from beat and by the imports. A bucket is always made anew from what lies below it, never added to: late samples
mark it, and it is made again. Whoever is stopped at any moment leaves marks, and the next run goes on.
"""

import time
from datetime import UTC, datetime

from fleet.turns import Turns
from telemetry.maintenance.noted import Run, note, noted
from telemetry.rollups import across, coarser, joining, minutes
from telemetry.store import groups

__all__ = ["join", "roll_up"]


def roll_up(budget_seconds: float, now: datetime | None = None) -> int:
    """Make the marked buckets that are over until none is left or the time is up; returns how many were made."""
    now = now or datetime.now(UTC)
    now_ms, deadline, begun = round(now.timestamp() * 1000), time.monotonic() + budget_seconds, time.monotonic()
    turns = Turns[str]("the rollups' part")
    with turns.of("members"):
        groups.follow_members()
    with turns.of("minutes"):
        turns.done += minutes.roll_up(now_ms, deadline)
    for step_seconds in (900, 3600):
        with turns.of(f"{step_seconds} s"):
            turns.done += coarser.roll_up(step_seconds, now_ms, deadline)
    with turns.of("groups"):
        turns.done += across.roll_up(now_ms, deadline)
    if turns.done or turns.failed:
        failure = f"failed: {turns.failure}" if turns.failed else ""
        note("rollups", now, time.monotonic() - begun, Run(turns.done, failure))
    return turns.end()


def join(budget_seconds: float, now: datetime | None = None) -> int:
    """Join fresh rows to one for each period, until none is left or the time is up; returns how many rows were joined."""
    now = now or datetime.now(UTC)
    with noted("rollups joined", now) as run:
        run.done = joining.join(round(now.timestamp() * 1000), time.monotonic() + budget_seconds)
    return run.done
