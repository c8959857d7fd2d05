"""NVLink: the rate that the driver's traffic counters make, and the error counters summed over the links.

Read by board.py each tick. Imports no other reader's state.
"""

import ctypes
from functools import partial
from typing import Any

import pynvml

from telemetry.agent.backends.nvml.calls import function
from telemetry.agent.backends.nvml.errors import is_refused, reason_of
from telemetry.agent.backends.nvml.ranges import believable
from telemetry.agent.backends.nvml.readings import NVLINK_ERROR_COUNTERS, NVLINK_RECEIVED, NVLINK_SENT
from telemetry.agent.backends.protocol import Reading
from telemetry.agent.backends.rounds import Ask
from telemetry.catalog import AbsentReason

RATE = "nvlink_bytes_per_second"
ERRORS = "nvlink_errors_total"
ERROR_METRICS = (*NVLINK_ERROR_COUNTERS, ERRORS)
_KIB = 1024
_SLOW_SECONDS = 60.0  # the rule on them is about an hour's growth
_AGAIN_SECONDS = 60.0  # after a failure that is no refusal
_MAX_SECONDS = 30.0  # over a longer gap the mean would stand for a time that the tick does not mean


Counted = tuple[float, float]  # seconds, and KiB in both directions until then

_LOW, _HIGH = believable(RATE)
MOST_COUNTED = believable(NVLINK_SENT)[1]


def counted(now: float, sent: float, received: float) -> Counted | None:
    """Return what both directions have counted, None where no counter can say that."""
    return None if sent > MOST_COUNTED or received > MOST_COUNTED else (now, float(sent) + float(received))


def rate_between(before: Counted | None, found: Counted | None) -> Reading | None:
    """Return bytes in both directions per second; None where no earlier counters lead to those that were found."""
    if found is None:
        return AbsentReason.UNKNOWN
    # Counters that fell began anew: no rate leads over that.
    if before is None or found[1] < before[1] or not 0 < found[0] - before[0] <= _MAX_SECONDS:
        return None
    rate = (found[1] - before[1]) * _KIB / (found[0] - before[0])
    return rate if _LOW <= rate <= _HIGH else AbsentReason.UNKNOWN


class NvlinkRate:
    """The rate from one tick to the next; `before` is what was `counted` in the one before, None at first."""

    def __init__(self) -> None:
        self.before: Counted | None = None

    def derive(self, readings: dict[str, Reading], now: float) -> None:
        """Put the rate in the place of the two counters."""
        sent, received = readings.pop(NVLINK_SENT, None), readings.pop(NVLINK_RECEIVED, None)
        before, self.before = self.before, None
        if isinstance(sent, AbsentReason):
            readings[RATE] = sent
            return
        if isinstance(received, AbsentReason):
            readings[RATE] = received
            return
        if sent is None or received is None:
            readings[RATE] = AbsentReason.NOT_SUPPORTED
            return
        self.before = counted(now, sent, received)
        rate = rate_between(before, self.before)
        if rate is None:
            readings.pop(RATE, None)
        else:
            readings[RATE] = rate


class NvlinkErrors:
    """A board's error counters, summed over its links.

    A call per link and counter, 72 on an H100: they are asked each minute, and the sums stand until then, which is right
    for counters alone. Where one link does not answer there is no sum: without it the counter would seem to begin anew.
    """

    def __init__(self, board: Any, phase_seconds: float = 0.0) -> None:
        """Find the links. Boards ask at different ticks, by `phase_seconds`. May raise as `read` does."""
        self._board = board
        self._phase_seconds = phase_seconds % _SLOW_SECONDS
        self._due = float("-inf")
        self._count = ctypes.c_ulonglong()
        self._sums: dict[str, Reading] = {}
        self._find()

    def _find(self) -> None:
        self._asks: dict[str, list[Ask]] = {}
        # Of a counter whose links are not known: no sum of a part may stand for it.
        self._failed: dict[str, AbsentReason] = {}
        self._find_at: float | None = None
        for metric, counter in NVLINK_ERROR_COUNTERS.items():
            found = self._links(counter)
            if isinstance(found, AbsentReason):
                self._failed[metric] = found
            elif found:
                self._asks[metric] = found
        self.metrics = {*self._asks, *self._failed}
        if self.metrics == set(NVLINK_ERROR_COUNTERS):
            self.metrics.add(ERRORS)

    def _find_again(self, now: float) -> None:
        """After a failure that was no refusal, look for the links about each minute."""
        if self._find_at is None:
            self._find_at = now + _AGAIN_SECONDS
        elif now >= self._find_at:
            self._find()
            self._due = now

    def _links(self, counter: int) -> list[Ask] | AbsentReason:
        """Return the calls of the links that have the counter, or why that cannot be told."""
        address = function("nvmlDeviceGetNvLinkErrorCounter")
        reference = ctypes.byref(self._count)
        asks: list[Ask] = []
        for link in range(pynvml.NVML_NVLINK_MAX_LINKS):
            ask = partial(address, self._board, link, counter, reference)
            code = ask()
            if code == pynvml.NVML_SUCCESS:
                asks.append(ask)
            elif code == pynvml.NVML_ERROR_INVALID_ARGUMENT:
                break  # the board has no such link, and none above it
            elif not is_refused(code):
                return reason_of(code)
        return asks

    def read(self, readings: dict[str, Reading], now: float) -> None:
        """Put the sums into `readings`. Raises DeviceGoneError and DriverAwayError."""
        if any(reason is not AbsentReason.NO_PERMISSION for reason in self._failed.values()):
            self._find_again(now)
        if not self.metrics:
            return
        if now >= self._due:
            self._sums = {metric: self._sum(metric) for metric in NVLINK_ERROR_COUNTERS if metric in self.metrics}
            if ERRORS in self.metrics:
                self._sums[ERRORS] = total([*self._sums.values()])
            self._due = now + _SLOW_SECONDS - (now - self._phase_seconds) % _SLOW_SECONDS
        readings.update(self._sums)

    def _sum(self, metric: str) -> Reading:
        if metric in self._failed:
            return self._failed[metric]
        low, high = believable(metric)
        total = 0
        for ask in self._asks[metric]:
            code = ask()
            if code:
                return reason_of(code)
            total += self._count.value
        return total if low <= total <= high else AbsentReason.UNKNOWN


def total(sums: list[Reading]) -> Reading:
    """Return all errors of a board together; where one of the sums is absent, its reason."""
    errors = 0.0
    for one in sums:
        if isinstance(one, AbsentReason):
            return one
        errors += one
    low, high = believable(ERRORS)
    return errors if low <= errors <= high else AbsentReason.UNKNOWN
