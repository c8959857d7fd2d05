"""What a job's process on a CPU keeps of the memory that it lets go of."""

import subprocess
import sys

import pytest

# A step that takes four blocks of 16 MB and lets them go, as a training does; nothing lies behind them on the heap.
STEPS = """
import ctypes, resource, sys
from training.reference import heap
if sys.argv[1] == "keep":
    heap.keep()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def step():
    blocks = [libc.malloc(16 << 20) for _ in range(4)]
    for block in blocks:
        ctypes.memset(block, 1, 16 << 20)
    for block in blocks:
        libc.free(block)
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how: str) -> int:
    return int(subprocess.run([sys.executable, "-c", STEPS, how], capture_output=True, check=True, text=True).stdout)


@pytest.mark.parametrize(("how", "is_many"), [("keep", False), ("as it is", True)])
def test_a_step_finds_the_memory_of_the_step_before(how: str, is_many: bool) -> None:
    assert (page_faults(how) > 20 * 1_000) == is_many
