"""One heap for all of the agent's threads: set once at its start, before the first of them is begun.

glibc gives each thread a heap of its own otherwise (mallopt(3), M_ARENA_MAX), which keeps what its busiest moment took: a
dozen of them, though Python's threads hardly ever allocate at the same time.
"""

import ctypes

_ARENA_MAX = -8  # malloc.h, M_ARENA_MAX


def share() -> None:
    """Where the C library knows no such heaps (musl), all share one anyway."""
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_ARENA_MAX, 1)
