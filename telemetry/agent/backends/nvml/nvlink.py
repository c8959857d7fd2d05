"""NVLink: the rate that the driver's traffic counters make, and the error counters summed over the links.

Read by device.py each tick. Imports no other reader's state.
"""

import ctypes
from functools import partial
from typing import Any

import pynvml

from telemetry.agent.backends.nvml.calls import Ask, function
from telemetry.agent.backends.nvml.errors import is_refused, reason_of
from telemetry.agent.backends.nvml.ranges import believable
from telemetry.agent.backends.nvml.readings import NVLINK_ERROR_COUNTERS, NVLINK_RECEIVED, NVLINK_SENT
from telemetry.agent.backends.protocol import Reading
from telemetry.catalog import AbsentReason

RATE = "nvlink_bytes_per_second"
ERRORS = "nvlink_errors_total"
ERROR_METRICS = (*NVLINK_ERROR_COUNTERS, ERRORS)
_KIB = 1024
_SLOW_SECONDS = 30.0  # as often as dcgm-exporter collects anything
_AGAIN_SECONDS = 60.0  # after a failure that is no refusal
_MAX_SECONDS = 30.0  # over a longer gap the mean would stand for a time that the tick does not mean


class NvlinkRate:
    """Bytes in both directions per second, from two readings of the counters; nothing at the first one."""

    def __init__(self) -> None:
        self._low, self._high = believable(RATE)
        self._most = believable(NVLINK_SENT)[1]
        self._before: tuple[float, float] | None = None

    def follow(self, now: float, sent: int, received: int) -> float | None:
        """Return the rate since the reading before; None, and nothing noted, where `derive` is to say why there is none."""
        if self._before is None or sent > self._most or received > self._most:
            return None
        since, counted = now - self._before[0], float(sent) + float(received)
        if counted < self._before[1] or not 0 < since <= _MAX_SECONDS:
            return None
        rate = (counted - self._before[1]) * _KIB / since
        if not self._low <= rate <= self._high:
            return None
        self._before = (now, counted)
        return rate

    def derive(self, readings: dict[str, Reading], now: float) -> None:
        """Put the rate in the place of the two counters."""
        sent, received = readings.pop(NVLINK_SENT, None), readings.pop(NVLINK_RECEIVED, None)
        before, self._before = self._before, None
        for counter in (sent, received):
            if isinstance(counter, AbsentReason):
                readings[RATE] = counter
                return
        if sent is None or received is None:
            readings[RATE] = AbsentReason.NOT_SUPPORTED
            return
        counted = float(sent) + float(received)
        self._before = (now, counted)
        # Counters that fell began anew: no rate leads over that.
        if before is not None and counted >= before[1] and 0 < now - before[0] <= _MAX_SECONDS:
            rate = (counted - before[1]) * _KIB / (now - before[0])
            readings[RATE] = rate if self._low <= rate <= self._high else AbsentReason.UNKNOWN
        else:
            readings.pop(RATE, None)


class NvlinkErrors:
    """A board's error counters, summed over its links.

    A call per link and counter, 72 on an H100: they are asked every 30 s, and the sums stand until then, which is right
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
