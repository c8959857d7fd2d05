"""Which foreign call a reading thread is in, so that another thread can tell one that hangs, and go on without it.

Used by the lanes around every call into a backend; the sampler's threads look at each other's. Knows no driver.
"""

import logging
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from telemetry.agent.backends.rounds import PowerRound

Answer = TypeVar("Answer")

WHOLE = ""  # stands for the backend itself where a device's uuid is expected


class Relieved(BaseException):
    """The call came back after another thread had gone on: its answer is too old, and this thread ends.

    Not an Exception: nothing that guards against a backend's faults may swallow it.
    """


class Delay(NamedTuple):
    """What others do not wait for any longer, as the log tells it."""

    level: int
    text: str


class Held(dict[str, None]):
    """The calls of one backend that do not return: device uuids as keys (WHOLE: one that concerns all of them).

    Several threads add and remove, one key at a time; looking is done at each reading, so it is a plain dict's.
    """

    def __init__(self, backend: str) -> None:
        super().__init__()
        self._backend = backend
        self.is_letting_go = False  # closing takes as long as a wait for events: no driver hangs in that alone

    def calls(self) -> list[str]:
        return sorted(self.copy())

    def delay(self, key: str) -> Delay:
        if self.is_letting_go and key == WHOLE:
            return Delay(logging.INFO, f"{self._backend}: the driver is being let go of")
        whose = f" of device {key}" if key else ""
        return Delay(logging.WARNING, f"{self._backend}: a call{whose} does not return")


class Watch:
    """One reading thread's; without threads (simulation, tests) nobody looks at it.

    A call belongs to whoever takes its entry away: the thread that comes back from it, or one that goes on without it.
    That is one step of a dict, which no other thread can come between, and needs no lock at each reading.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._number = 0
        self._calls: dict[int, tuple[Held, str, float]] = {}  # one at most

    def call(self, held: Held, key: str, function: Callable[[], Answer], now: float | None = None) -> Answer:
        """Return the function's answer. Raises Relieved where another thread has gone on meanwhile."""
        self._number = number = self._number + 1
        self._calls[number] = (held, key, self._clock() if now is None else now)
        try:
            return function()
        finally:
            if self._calls.pop(number, None) is None:
                held.pop(key, None)
                raise Relieved

    def go_round(self, held: Held, power: PowerRound, now: float, latest: float) -> tuple[list[int], float]:
        """Return what all devices answered until `latest`, and when that was over; nothing where the driver is let go of.

        Raises Relieved as `call` does. All in one function, as each call within a tick is dearer than the driver's.
        """
        gate, calls, clock, codes = power.gate, self._calls, self._clock, list[int]()
        self._number = number = self._number + 1
        with gate.lock:
            if gate.is_closing:
                return codes, now
            gate.under_way += 1
        try:
            for uuid, asks in power.turns:
                calls[number] = (held, uuid, now)
                try:
                    for ask in asks:
                        codes.append(ask())
                finally:
                    if calls.pop(number, None) is None:
                        held.pop(uuid, None)
                        raise Relieved
                now = clock()
                if now > latest:
                    break
        finally:
            with gate.lock:
                gate.under_way -= 1
                if gate.is_closing:
                    gate.note_left()  # type: ignore[unreachable]  # it may have been closed meanwhile
        return codes, now

    def relieve(self, patience_seconds: float) -> Delay | None:
        """Hold the call if it has lasted for longer than `patience_seconds`, and return what it is; else None."""
        for number, (held, key, began) in list(self._calls.items()):
            if self._clock() - began < patience_seconds:
                continue
            held[key] = None  # before the entry goes: the thread that comes back lets go after
            if self._calls.pop(number, None) is not None:
                return held.delay(key)
            held.pop(key, None)
        return None
