"""The agent's memory: one heap for all of its threads, and what lies free in it given back now and then.

What is to be done before the first thread begins is `share`; all else is on a thread of its own. Knows glibc, and goes
without what another C library lacks (musl).
"""

import ctypes
import gc
import threading

EVERY_SECONDS = 300.0
_ARENA_MAX = -8  # malloc.h, M_ARENA_MAX


def share() -> None:
    """Have all threads share the process's heap.

    glibc gives each one of its own otherwise (mallopt(3)), which keeps what its busiest moment took: a dozen of them,
    though Python's threads hardly ever allocate at the same time.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option:
        set_option(_ARENA_MAX, 1)


def give_back() -> None:
    """Give the kernel what lies free. About a millisecond.

    A whole collection empties the interpreter's own lists of free objects as well, which else keep as many as there ever
    were at a time, of each size: 2,000 tuples of a length, and a batch after a stall has longer ones than others.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)


class Tidying:
    def __init__(self, every_seconds: float = EVERY_SECONDS) -> None:
        self._every_seconds = every_seconds
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tidy", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ending.set()

    def _run(self) -> None:
        while not self._ending.wait(self._every_seconds):
            give_back()
