"""The driver's plain calls, prepared once per device: function pointers, arguments, and one buffer for all answers.

Read by board.py each tick. pynvml's own wrappers build an answer's struct and raise an exception for a code at
every call, which costs more than the calls themselves.
"""

import ctypes
import struct
from collections.abc import Callable, Container, Iterator, Sequence
from functools import partial
from typing import Any

import pynvml

from telemetry.agent.backends.nvml.conversion import conversion, picker, unpacker
from telemetry.agent.backends.nvml.errors import STALE_HANDLE, is_refused, reason_of
from telemetry.agent.backends.nvml.readings import Call, CallLine
from telemetry.agent.backends.protocol import Reading
from telemetry.agent.backends.rounds import Ask


def function(symbol: str) -> Callable[..., int]:
    """Return the loaded driver library's function, through the library itself; where it is older, one that says so."""
    found: Callable[..., int] = getattr(pynvml.nvmlLib, symbol, _not_found)
    return found


def _not_found(*_: object) -> int:
    return int(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)


def answers_strangely(code: int) -> bool:
    """Return whether a call that was offered answers as if the device had changed under its handle."""
    return is_refused(code) or code in STALE_HANDLE


class _Answers:
    """Room for one call's answers within the buffer that all calls of a device share."""

    def __init__(self, call: Call) -> None:
        self.layout = "".join(f"{pointer}{-struct.calcsize('=' + pointer) % 8}x" for pointer in call.pointers)
        self.sizes = [-(-struct.calcsize("=" + pointer) // 8) for pointer in call.pointers]
        self.n_words = sum(self.sizes)
        self.n_members = len(struct.unpack("=" + self.layout, bytes(8 * self.n_words)))

    def prepare(self, call: Call, handle: Any, buffer: Any, word: int) -> Ask:
        """Return the call, its answers at `word` of the buffer."""
        if call.version:
            buffer[word] = call.version
        references = []
        for size in self.sizes:
            references.append(ctypes.byref(buffer, 8 * word))
            word += size
        return partial(function(call.symbol), handle, *call.arguments, *references)


class CallBatch:
    """The calls that one device offers. `fixed` holds what was asked once; `metrics` is everything offered."""

    def __init__(self, handle: Any, lines: Sequence[CallLine]) -> None:
        """Ask each call once and keep those that the device offers. Raises DeviceGoneError and DriverAwayError."""
        self.fixed: dict[str, Reading] = {}
        self.metrics: set[str] = set()
        self.calls: list[Call] = []
        self._handle = handle
        self._codes: list[int] = []
        self._now: list[int] = []  # the codes that were taken last
        self._reasons: dict[str, Reading] = {}  # of the calls that failed in the last tick
        self._stand: Sequence[int] | None = None  # what `refresh` has put last, where all of it were numbers
        kept: list[CallLine] = []
        for call in dict.fromkeys(line.call for line in lines):
            own = [line for line in lines if line.call is call and line.metric not in self.metrics]
            if own:
                kept.extend(self._probe(call, own))
        self._prepare(kept)

    def _probe(self, call: Call, lines: list[CallLine]) -> Iterator[CallLine]:
        """Yield the lines that are to be read each tick."""
        answers = _Answers(call)
        buffer = (ctypes.c_uint64 * answers.n_words)()
        code = answers.prepare(call, self._handle, buffer, 0)()
        if is_refused(code):
            return
        self.metrics.update(line.metric for line in lines)
        if code != pynvml.NVML_SUCCESS:
            self._reasons.update(dict.fromkeys((line.metric for line in lines), reason_of(code)))
        elif all(line.fixed for line in lines):
            raw = struct.unpack("=" + answers.layout, buffer)
            fixed = conversion(tuple(line.metric for line in lines), tuple(line.divisor for line in lines))
            fixed.put([raw[line.member] for line in lines], self.fixed)
            return
        self.calls.append(call)
        self._codes.append(code)
        yield from lines

    def _prepare(self, lines: list[CallLine]) -> None:
        self.lines = lines
        rooms = [_Answers(call) for call in self.calls]
        n_words = sum(room.n_words for room in rooms)
        self.room = bytearray(8 * n_words)  # where the driver writes
        self._buffer = (ctypes.c_uint64 * n_words).from_buffer(self.room)
        self.layout = "".join(room.layout for room in rooms)
        self.n_numbers = sum(room.n_members for room in rooms)
        self._unpack = unpacker("=" + self.layout)
        self.asks: list[Ask] = []
        positions: list[int] = []  # of the lines' numbers among all
        word = member = 0
        for call, room in zip(self.calls, rooms, strict=True):
            self.asks.append(room.prepare(call, self._handle, self._buffer, word))
            positions.extend(member + line.member for line in lines if line.call is call)
            word += room.n_words
            member += room.n_members
        self.positions = tuple(positions)
        self._pick = picker(self.positions)
        self._conversion = conversion(tuple(line.metric for line in lines), tuple(line.divisor for line in lines))
        self._metrics_of = [[line.metric for line in lines if line.call is call] for call in self.calls]

    @property
    def is_plain(self) -> bool:
        """Return whether all calls gave numbers the last time."""
        return not (self._reasons or any(self._codes))

    def read(self, readings: dict[str, Reading]) -> bool:
        """Ask everything anew and put it into `readings`. Return False where the device answers strangely.

        Raises DeviceGoneError and DriverAwayError.
        """
        self.took([ask() for ask in self.asks])
        return self.put(readings)

    def refresh(self, readings: dict[str, Reading]) -> bool:
        """As `read`, where `readings` are those that it was read into before: what is as it was then stands there."""
        numbers = self.took([ask() for ask in self.asks])
        if numbers is not None and numbers == self._stand:
            return True
        self._stand = numbers
        return self.put(readings)

    def took(self, codes: list[int]) -> Sequence[int] | None:
        """Take note of what `asks` answered. Return the numbers in the order of the lines; None where a call gave none.

        Nor where one answered otherwise than before: then `put` says what there is.
        """
        self._now = codes
        if codes != self._codes or self._reasons:
            return None
        return self._pick(self._unpack(self._buffer))

    def put(self, readings: dict[str, Reading]) -> bool:
        """Put the answers that were taken last into `readings`; returns and raises as `read` does."""
        codes = self._now
        is_well = codes == self._codes or self._note(codes)
        self._conversion.put(self._pick(self._unpack(self._buffer)), readings)
        if self._reasons:
            readings.update(self._reasons)
        return is_well

    def lines_of(self, metrics: Container[str]) -> list[CallLine]:
        """Return what is asked for these metrics each tick."""
        return [line for line in self.lines if line.metric in metrics]

    def _note(self, codes: list[int]) -> bool:
        """Keep why readings are absent. Return False where an answer shows that the device has changed."""
        is_well = not any(
            answers_strangely(code) for code, before in zip(codes, self._codes, strict=True) if code != before
        )
        self._codes = codes
        self._reasons = {}
        for code, metrics in zip(codes, self._metrics_of, strict=True):
            if code != pynvml.NVML_SUCCESS:
                self._reasons.update(dict.fromkeys(metrics, reason_of(code)))
        return is_well
