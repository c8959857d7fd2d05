"""Field values: one driver call for all that a device offers, over an array that is made once and used again.

Read by board.py each tick. Each value states its own return code and type.
"""

import ctypes
import struct
from collections.abc import Callable, Container, Iterable, Sequence
from functools import partial
from math import nan
from operator import and_
from typing import Any

import pynvml

from telemetry.agent.backends.nvml.calls import answers_strangely, function
from telemetry.agent.backends.nvml.conversion import conversion, unpacker
from telemetry.agent.backends.nvml.errors import is_refused, reason_of
from telemetry.agent.backends.nvml.readings import FieldLine
from telemetry.agent.backends.protocol import Reading

# nvmlFieldValue_t: field, scope, timestamp and latency are passed over; then value type, return code, value.
_LAYOUT = "24xiiQ"

# The types that are read by cutting bits off, which is done for all fields at once.
_MASKS = {
    pynvml.NVML_VALUE_TYPE_UNSIGNED_SHORT: 2**16 - 1,
    pynvml.NVML_VALUE_TYPE_UNSIGNED_INT: 2**32 - 1,
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG: 2**64 - 1,
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG: 2**64 - 1,
}


def _reinterpret(layout: str) -> Callable[[int], float]:
    reader = struct.Struct("=" + layout)

    def decode(bits: int) -> float:
        value: float = reader.unpack_from(bits.to_bytes(8, "little"))[0]
        return value

    return decode


# How a value is read by its type.
_LAYOUTS = {
    pynvml.NVML_VALUE_TYPE_UNSIGNED_SHORT: "H6x",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_INT: "I4x",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG: "Q",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG: "Q",
}
_DECODERS: dict[int, Callable[[int], float]] = {
    pynvml.NVML_VALUE_TYPE_DOUBLE: _reinterpret("d"),
    pynvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG: _reinterpret("q"),
    pynvml.NVML_VALUE_TYPE_SIGNED_INT: _reinterpret("i"),
}


def _decode(kind: int, bits: int) -> float:
    """Return the number that a value's bits mean; NaN, which is never believed, for a type that nvml.h does not name."""
    if kind in _MASKS:
        return bits & _MASKS[kind]
    return _DECODERS[kind](bits) if kind in _DECODERS else nan


def values_layout(kinds: Sequence[int]) -> str:
    """Return how the values of these types, whole numbers, are read out of what the driver has written."""
    return "".join(f"32x{_LAYOUTS[kind]}" for kind in kinds)


def status_layout(n: int) -> str:
    """Return how each value's type and return code are read."""
    return "24xii8x" * n


class FieldBatch:
    """The fields that one device offers."""

    def __init__(self, handle: Any, lines: Sequence[FieldLine]) -> None:
        """Ask all once and keep those that the device offers. Raises DeviceGoneError and DriverAwayError."""
        self._handle = handle
        self._prepare(lines)
        offered = self._probe()
        self.metrics = {line.metric for line in offered}
        self._prepare(offered)

    def _prepare(self, lines: Sequence[FieldLine]) -> None:
        self.lines = lines
        self.room = bytearray(ctypes.sizeof(pynvml.c_nvmlFieldValue_t) * len(lines))  # where the driver writes
        self._values = (pynvml.c_nvmlFieldValue_t * len(lines)).from_buffer(self.room)
        for value, line in zip(self._values, lines, strict=True):
            value.fieldId, value.scopeId = line.field_id, line.scope
        self.call = partial(function("nvmlDeviceGetFieldValues"), self._handle, len(lines), self._values)
        self._unpack = unpacker("=" + _LAYOUT * len(lines))
        self._conversion = conversion(tuple(line.metric for line in lines), tuple(line.divisor for line in lines))
        self._code = self._now = pynvml.NVML_SUCCESS  # of the call as a whole, as it was noted and as it was taken last
        self._answers: tuple[int, ...] = ()
        self._codes: tuple[int, ...] = (pynvml.NVML_SUCCESS,) * len(lines)
        self._kinds: tuple[int, ...] = ()
        self._masks: list[int] | None = None
        self._reasons: dict[str, Reading] = {}
        self._stand: tuple[int, ...] | None = None  # what `refresh` has put last, where all of it were numbers

    def _probe(self) -> Sequence[FieldLine]:
        code = self.call()
        if is_refused(code):
            return []
        if code != pynvml.NVML_SUCCESS:
            reason_of(code)
            return self.lines
        offered: dict[str, FieldLine] = {}
        for line, own_code in zip(self.lines, self._unpack(self._values)[1::3], strict=True):
            # A number that this driver does not know yet is an invalid argument to it.
            if not is_refused(own_code) and own_code != pynvml.NVML_ERROR_INVALID_ARGUMENT:
                reason_of(own_code)
                offered.setdefault(line.metric, line)
        return list(offered.values())

    @property
    def kinds(self) -> tuple[int, ...] | None:
        """Return the types of the values, None where one gave no whole number the last time, or nothing."""
        if not self.lines:
            return ()
        return None if self._reasons or self._code or self._masks is None else self._kinds

    def read(self, readings: dict[str, Reading]) -> bool:
        """Ask everything anew and put it into `readings`. Return False where the device answers strangely.

        Raises DeviceGoneError and DriverAwayError.
        """
        if self.lines:
            self.took(self.call())
        return self.put(readings)

    def refresh(self, readings: dict[str, Reading]) -> bool:
        """As `read`, where `readings` are those that it was read into before: what is as it was then stands there."""
        if not self.lines:
            return True
        took = self.took(self.call())
        numbers = None if took is None else tuple(took)
        if numbers is not None and numbers == self._stand:
            return True
        self._stand = numbers
        return self.put(readings)

    def took(self, code: int) -> Iterable[int] | None:
        """Take note of what `call` answered. Return the numbers in the order of the lines; None where a field gave none.

        Nor where one answered otherwise than before, or no whole number: then `put` says what there is.
        """
        self._now = code
        if code:
            return None
        self._answers = answers = self._unpack(self._values)
        masks = self._masks
        if answers[1::3] != self._codes or self._reasons or answers[::3] != self._kinds or masks is None:
            return None
        return map(and_, answers[2::3], masks)

    def put(self, readings: dict[str, Reading]) -> bool:
        """Put the answers that were taken last into `readings`; returns and raises as `read` does."""
        if not self.lines:
            return True
        code = self._now
        if code:
            readings.update(dict.fromkeys(self.metrics, reason_of(code)))
            changed, self._code = code != self._code, code
            return not (changed and answers_strangely(code))
        answers = self._answers
        kinds, codes, bits = answers[::3], answers[1::3], answers[2::3]
        is_well = codes == self._codes or self._note(codes)
        if kinds != self._kinds:
            self._kinds = kinds
            self._masks = [_MASKS[kind] for kind in kinds] if _MASKS.keys() >= set(kinds) else None
        numbers = map(_decode, kinds, bits) if self._masks is None else map(and_, bits, self._masks)
        self._conversion.put(tuple(numbers), readings)
        if self._reasons:
            readings.update(self._reasons)
        return is_well

    def lines_of(self, metrics: Container[str]) -> list[FieldLine]:
        """Return what is asked for these metrics each tick."""
        return [line for line in self.lines if line.metric in metrics]

    def _note(self, codes: tuple[int, ...]) -> bool:
        """Keep why readings are absent. Return False where an answer shows that the device has changed."""
        changes = zip(codes, self._codes, strict=True)
        is_well = not any(answers_strangely(code) for code, before in changes if code != before)
        self._codes = codes
        self._reasons = {}
        for line, code in zip(self.lines, codes, strict=True):
            if code != pynvml.NVML_SUCCESS:
                self._reasons[line.metric] = reason_of(code)
        return is_well
