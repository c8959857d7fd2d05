"""When an alert opens and when it is resolved: the hysteresis in time. Pure.

The hysteresis in value is the rule's: between its two points it answers BETWEEN.
"""

from enum import Enum
from typing import NamedTuple

from telemetry.health.rule import Standing


class Change(Enum):
    NONE = "none"
    OPEN = "open"
    RESOLVE = "resolve"


class Step(NamedTuple):
    """`since_ms` is since when it has stood without a break where it is to stand before something changes; None: it does not."""

    since_ms: int | None
    change: Change


def step(standing: Standing, since_ms: int | None, now_ms: int, wait_ms: float, *, is_open: bool) -> Step:
    """Return what follows from how a subject stands at `now_ms`.

    An open alert waits to be clear for `wait_ms`, a closed one to be raised for as long; whatever else is seen in between,
    or nothing at all, makes it begin anew.
    """
    if standing is not (Standing.CLEAR if is_open else Standing.RAISED):
        return Step(None, Change.NONE)
    began_ms = now_ms if since_ms is None else min(since_ms, now_ms)
    if now_ms - began_ms < wait_ms:
        return Step(began_ms, Change.NONE)
    return Step(began_ms, Change.RESOLVE if is_open else Change.OPEN)
