"""Has the C library keep the memory that a job on a CPU lets go of, so that the next step finds it mapped. No torch.

By itself glibc returns what is free at the heap's end to the kernel, and asks it anew for each large block; the kernel clears
every page at its first touch. A step of resnet-train met 18,000 such page faults, a sixth of its CPU time, and how many it meets
hangs on which small block happens to lie at the heap's end: two runs of the same code differed by 4 %.
"""

import ctypes
import platform
from typing import Any

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_MOST_INT = 2**31 - 1
_LARGEST_FROM_HEAP = 32 * 2**20  # bytes; glibc takes no higher threshold


def keep() -> None:
    """Ask for it; does nothing where the C library has no such switch."""
    if mallopt := _mallopt():
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_FROM_HEAP)
        mallopt(_M_TRIM_THRESHOLD, _MOST_INT)


def described() -> str:
    """Return what a result says of the allocator, as "glibc 2.36, keeps freed memory"; empty where nothing is known."""
    if _mallopt() is None:
        return ""
    return f"{' '.join(platform.libc_ver())}, keeps freed memory"


def _mallopt() -> Any:
    return getattr(ctypes.CDLL(None), "mallopt", None)
