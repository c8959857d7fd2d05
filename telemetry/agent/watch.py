"""Which foreign call a reading thread is in, so that another thread can tell one that hangs, and go on without it.

Used by the lanes around every call into a backend; the sampler's threads look at each other's. Knows no driver.
"""

import threading
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")

WHOLE = ""  # stands for the backend itself where a device's uuid is expected


class Relieved(BaseException):
    """The call came back after another thread had gone on: its answer is too old, and this thread ends.

    Not an Exception: nothing that guards against a backend's faults may swallow it.
    """


class Held:
    """The calls of one backend that do not return, by device uuid (WHOLE: one that concerns all of them)."""

    def __init__(self, backend: str) -> None:
        self._backend = backend
        self._lock = threading.Lock()
        self._keys: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def calls(self) -> list[str]:
        with self._lock:
            return sorted(self._keys)

    def name(self, key: str) -> str:
        return f"{self._backend}: a call" + (f" of device {key}" if key else "")

    def hold(self, key: str) -> None:
        with self._lock:
            self._keys.add(key)

    def let_go(self, key: str) -> None:
        with self._lock:
            self._keys.discard(key)


class Watch:
    """One reading thread's; without threads (simulation, tests) nobody looks at it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._call: tuple[Held, str, float] | None = None
        self._is_relieved = False

    def call(self, held: Held, key: str, function: Callable[[], Answer]) -> Answer:
        """Return the function's answer. Raises Relieved where another thread has gone on meanwhile."""
        self._call = (held, key, self._clock())
        try:
            return function()
        finally:
            with self._lock:
                self._call = None
            if self._is_relieved:
                held.let_go(key)
                raise Relieved

    def relieve(self, patience_seconds: float) -> str | None:
        """Hold the call if it has lasted for longer than `patience_seconds`, and return its name; else None."""
        with self._lock:
            if self._call is None:
                return None
            held, key, began = self._call
            if self._clock() - began < patience_seconds:
                return None
            held.hold(key)
            self._is_relieved = True
            return held.name(key)
