"""GPM metrics (Hopper and newer): what the driver makes of two samples of a device's counters, in one call for all.

Read by board.py and mig.py each tick. Two samples are allocated once per device and change places.
"""

import ctypes
import logging
import math
import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pynvml

from telemetry.agent.backends.nvml.calls import answers_strangely, function
from telemetry.agent.backends.nvml.conversion import Conversion
from telemetry.agent.backends.nvml.errors import is_driver_away, reason_of
from telemetry.agent.backends.nvml.readings import GPM_LINES
from telemetry.agent.backends.protocol import Reading
from telemetry.catalog import AbsentReason

_log = logging.getLogger(__name__)

MIN_SECONDS = 0.1  # nvml.h: "should be greater than 100ms due to the internal sample refresh rate"
MAX_SECONDS = 30.0  # over a longer gap the mean would stand for a time that the tick does not mean

GPM_METRICS = tuple(line.metric for line in GPM_LINES)
_CONVERSION = Conversion(GPM_METRICS, [line.divisor for line in GPM_LINES])
# nvmlGpmMetric_t: the id is passed over; then return code, value; the names are passed over.
_HEAD = f"{pynvml.c_nvmlGpmMetricsGet_t.metrics.offset}x"
VALUES_LAYOUT, STATUS_LAYOUT = _HEAD + len(GPM_LINES) * "8xd24x", _HEAD + len(GPM_LINES) * "4xi32x"
_ANSWER = struct.Struct("=" + _HEAD + len(GPM_LINES) * "4xid24x")


def open_gpm(board: Any, instance_id: int | None = None) -> "GpmReader | AbsentReason":
    """Return the reader of a board, or of a GPU instance of it, with its first sample taken; or why there is none.

    Raises DeviceGoneError and DriverAwayError.
    """
    support = pynvml.c_nvmlGpmSupport_t(version=pynvml.NVML_GPM_SUPPORT_VERSION)
    code = function("nvmlGpmQueryDeviceSupport")(board, ctypes.byref(support))
    if code != pynvml.NVML_SUCCESS:
        return reason_of(code)
    if not support.isSupportedDevice:
        return AbsentReason.NOT_SUPPORTED
    try:
        reader = GpmReader(board, instance_id)
    except pynvml.NVMLError as error:
        return reason_of(error.value)
    code = reader.sample()
    if code == pynvml.NVML_SUCCESS:
        return reader
    reader.free()
    return reason_of(code)


def _without_gpm(readings: dict[str, Reading]) -> bool:
    for metric in GPM_METRICS:
        readings.pop(metric, None)
    return True


class _Pair:
    """What asks for the metrics between two samples, made ready once for each of the two orders."""

    def __init__(self, take: Callable[..., int], older: Any, newer: Any) -> None:
        self.sample = newer
        self.take = partial(take, newer)
        room = bytearray(ctypes.sizeof(pynvml.c_nvmlGpmMetricsGet_t))
        self.room = memoryview(room)[: _ANSWER.size]  # where the driver writes
        self.get = pynvml.c_nvmlGpmMetricsGet_t.from_buffer(room)
        self.get.version, self.get.numMetrics = pynvml.NVML_GPM_METRICS_GET_VERSION, len(GPM_LINES)
        self.get.sample1, self.get.sample2 = older, newer
        self.evaluate = partial(function("nvmlGpmMetricsGet"), ctypes.byref(self.get))
        for metric, line in zip(self.get.metrics, GPM_LINES, strict=False):
            metric.metricId = line.gpm_id


class GpmReader:
    """The GPM metrics of a board, or of one GPU instance of it under MIG.

    Where a sample can be compared with the one before, MIN_SECONDS to MAX_SECONDS after it, others may have the pair whose
    `turn` it is asked themselves; then `sampled_at` is theirs to set, or `took` is told the codes.
    """

    def __init__(self, board: Any, instance_id: int | None = None) -> None:
        """Allocate the two samples. Raises NVMLError where the driver has no memory for them."""
        one, other = pynvml.nvmlGpmSampleAlloc(), pynvml.nvmlGpmSampleAlloc()
        take = self._sampling(board, instance_id)
        self.pairs = (_Pair(take, older=other, newer=one), _Pair(take, older=one, newer=other))
        self.turn = 0  # which of `pairs` has taken the latest sample
        self.sampled_at = -math.inf  # when the latest sample was taken, where that was well
        self._code = self._now = pynvml.NVML_SUCCESS  # as it was noted, and as of the last `ask`
        self._is_empty = True  # whether the last `ask` had no two samples to compare
        self._answers: tuple[Any, ...] = ()

    @staticmethod
    def _sampling(board: Any, instance_id: int | None) -> Callable[..., int]:
        if instance_id is None:
            return partial(function("nvmlGpmSampleGet"), board)
        return partial(function("nvmlGpmMigSampleGet"), board, instance_id)

    def sample(self) -> int:
        """Take a sample in the place of the older one; return the driver's code."""
        self.turn = 1 - self.turn
        return self.pairs[self.turn].take()

    def read(self, readings: dict[str, Reading], now: float) -> bool:
        """Put what happened since the sample before into `readings`; take it out where there is no such sample yet.

        Return False where the device answers strangely. Raises DeviceGoneError and DriverAwayError.
        """
        self.ask(now)
        return self.put(readings)

    def ask(self, now: float) -> Sequence[float] | None:
        """Compare a new sample with the one before. Return the numbers in the order of GPM_LINES.

        None where one was not given: then `put` says what there is.
        """
        since = now - self.sampled_at
        self._is_empty = since < MIN_SECONDS
        if self._is_empty:
            return None
        code = self.sample()
        self.sampled_at = now if code == pynvml.NVML_SUCCESS else -math.inf
        if code == pynvml.NVML_SUCCESS:
            self._is_empty = since > MAX_SECONDS
            if self._is_empty:
                return None
            code = self.pairs[self.turn].evaluate()
        return self._took(code)

    @property
    def is_plain(self) -> bool:
        """Return whether there was a number for each metric the last time."""
        return not (self._is_empty or self._now or any(self._answers[::2]))

    def took(self, now: float, sampled: int, code: int) -> Sequence[float] | None:
        """As `ask`, where a pair has sampled and evaluated in step; these are the codes that it was answered."""
        self._is_empty = False
        self.sampled_at = now if sampled == pynvml.NVML_SUCCESS else -math.inf
        return self._took(sampled or code)

    def _took(self, code: int) -> Sequence[float] | None:
        self._now = code
        if code != pynvml.NVML_SUCCESS:
            return None
        self._answers = answers = _ANSWER.unpack_from(self.pairs[self.turn].get)
        return None if any(answers[::2]) else answers[1::2]

    def put(self, readings: dict[str, Reading]) -> bool:
        """Put the answers of the last `ask` into `readings`; returns and raises as `read` does."""
        if self._is_empty:
            return _without_gpm(readings)
        code = self._now
        if code != pynvml.NVML_SUCCESS:
            readings.update(dict.fromkeys(GPM_METRICS, reason_of(code)))
            changed, self._code = code != self._code, code
            return not (changed and answers_strangely(code))
        self._put(readings)
        return True

    def _put(self, readings: dict[str, Reading]) -> None:
        answers = self._answers
        _CONVERSION.put(answers[1::2], readings)
        codes = answers[::2]
        if any(codes):
            for metric, code in zip(GPM_METRICS, codes, strict=True):
                if code != pynvml.NVML_SUCCESS:
                    readings[metric] = reason_of(code)

    def free(self) -> None:
        """Give the samples back; the reader is not used again. Before the driver is let go of."""
        for pair in self.pairs:
            try:
                pynvml.nvmlGpmSampleFree(pair.sample)
            except pynvml.NVMLError as error:
                # A driver that was unloaded meanwhile has nothing left to take back.
                level = logging.DEBUG if is_driver_away(error.value) else logging.WARNING
                _log.log(level, "the NVIDIA driver does not take a GPM sample back: %s", error)
