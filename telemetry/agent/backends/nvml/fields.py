"""Field values: one driver call for all that a device offers, over an array that is made once and used again.

Read by device.py each tick. Each value states its own return code and type.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Any

import pynvml

from telemetry.agent.backends.nvml.calls import answers_strangely, function
from telemetry.agent.backends.nvml.errors import is_refused, reason_of
from telemetry.agent.backends.nvml.ranges import believable
from telemetry.agent.backends.nvml.readings import NVLINK_RECEIVED, NVLINK_SENT, FieldLine
from telemetry.agent.backends.protocol import Reading
from telemetry.catalog import AbsentReason

# nvmlFieldValue_t: field, scope, timestamp and latency are passed over; then value type, return code, value.
_ANSWER = struct.Struct("=24xiiQ")
_COUNTER_CEILING = 2**62

_LONG_LONG = pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG


def _reinterpret(layout: str) -> Callable[[int], float]:
    reader = struct.Struct("=" + layout)

    def decode(bits: int) -> float:
        value: float = reader.unpack_from(bits.to_bytes(8, "little"))[0]
        return value

    return decode


_DECODERS: dict[int, Callable[[int], float]] = {
    pynvml.NVML_VALUE_TYPE_DOUBLE: _reinterpret("d"),
    pynvml.NVML_VALUE_TYPE_UNSIGNED_INT: _reinterpret("I"),
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG: _reinterpret("Q"),
    _LONG_LONG: _reinterpret("Q"),
    pynvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG: _reinterpret("q"),
    pynvml.NVML_VALUE_TYPE_SIGNED_INT: _reinterpret("i"),
    pynvml.NVML_VALUE_TYPE_UNSIGNED_SHORT: _reinterpret("H"),
}


def _no_number(bits: int) -> float:
    return float("nan")  # a type that nvml.h does not name: lies in no range


class FieldBatch:
    """The fields that one device offers."""

    def __init__(self, handle: Any, lines: Sequence[FieldLine]) -> None:
        """Ask all once and keep those that the device offers. Raises DeviceGoneError and DriverAwayError."""
        self._handle = handle
        self._ask = function("nvmlDeviceGetFieldValues")
        self._prepare(lines)
        offered = self._probe(lines)
        self.metrics = {line.metric for line in offered}
        self._prepare(offered)

    def _prepare(self, lines: Sequence[FieldLine]) -> None:
        self._values = (pynvml.c_nvmlFieldValue_t * len(lines))()
        for value, line in zip(self._values, lines, strict=True):
            value.fieldId, value.scopeId = line.field_id, line.scope
        self._rows = [(line.metric, line.unit.up, line.unit.down, *_range(line.metric)) for line in lines]
        self._codes = [pynvml.NVML_SUCCESS] * len(lines)
        self._code_of_all = pynvml.NVML_SUCCESS

    def _probe(self, lines: Sequence[FieldLine]) -> list[FieldLine]:
        code = self._call()
        if is_refused(code):
            return []
        if code != pynvml.NVML_SUCCESS:
            reason_of(code)
            return list(lines)
        offered: dict[str, FieldLine] = {}
        for line, (_, own_code, _) in zip(lines, _ANSWER.iter_unpack(self._values), strict=True):
            # A number that this driver does not know yet is an invalid argument to it.
            if not is_refused(own_code) and own_code != pynvml.NVML_ERROR_INVALID_ARGUMENT:
                reason_of(own_code)
                offered.setdefault(line.metric, line)
        return list(offered.values())

    def _call(self) -> int:
        return self._ask(self._handle, len(self._values), self._values)

    def read(self, readings: dict[str, Reading]) -> bool:
        """Ask everything anew and put it into `readings`. Return False where the device answers strangely.

        Raises DeviceGoneError and DriverAwayError.
        """
        if not self._rows:
            return True
        code = self._call()
        if code:
            readings.update(dict.fromkeys(self.metrics, reason_of(code)))
            changed, self._code_of_all = code != self._code_of_all, code
            return not (changed and answers_strangely(code))
        is_well = True
        answers = zip(self._rows, _ANSWER.iter_unpack(self._values), strict=True)
        for number, ((metric, up, down, low, high), (kind, own_code, bits)) in enumerate(answers):
            if own_code:
                readings[metric] = reason_of(own_code)
                if own_code != self._codes[number]:
                    self._codes[number] = own_code
                    is_well = is_well and not answers_strangely(own_code)
                continue
            value = (bits if kind == _LONG_LONG else _DECODERS.get(kind, _no_number)(bits)) * up / down
            readings[metric] = value if low <= value <= high else AbsentReason.UNKNOWN
        return is_well


def _range(metric: str) -> tuple[float, float]:
    if metric in {NVLINK_SENT, NVLINK_RECEIVED}:
        return 0, _COUNTER_CEILING
    return believable(metric)
