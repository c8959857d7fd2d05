"""The web process's memory: what an answer took is kept for the next one. Called by asgi.py; the agent's heap is its own matter.

By itself glibc hands each large block back to the kernel (mallopt(3)), and the next answer pays for its pages again: a series of
2.7 MB took 680 page faults before it left Django, an eighth of its CPU time. Other C libraries are left alone.
"""

import ctypes
import logging

logger = logging.getLogger(__name__)

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # malloc.h
_KEPT_BYTES = 64 * 1024**2  # of what lies free at the heap's end
_LARGEST_BYTES = 32 * 1024**2  # of a block that is taken from the heap: more glibc does not allow


def keep() -> None:
    """Have one heap for all threads, which keeps up to 64 MiB that are free; to be said before the first thread begins."""
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option:
        for option, value in ((_ARENA_MAX, 1), (_MMAP_THRESHOLD, _LARGEST_BYTES), (_TRIM_THRESHOLD, _KEPT_BYTES)):
            if not set_option(option, value):
                # Nothing is lost but the gain: another C library, or one that was told otherwise.
                logger.debug("mallopt refused %d for option %d", value, option)
