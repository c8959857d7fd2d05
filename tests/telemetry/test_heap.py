"""The agent's heap, seen in a process of its own: where a thread's memory lies, and what the kernel gets back."""

import subprocess
import sys

WHERE = """
import ctypes, threading
from telemetry.agent import heap

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
found = []
{share}
thread = threading.Thread(target=lambda: found.append(libc.malloc(64)))
thread.start()
thread.join()
ranges = [line.split()[0] for line in open("/proc/self/maps") if line.endswith("[heap]\\n")]
print(any(int(low, 16) <= found[0] < int(high, 16) for low, high in (each.split("-") for each in ranges)))
"""
GIVEN_BACK = """
import ctypes, resource, time
from pathlib import Path
from telemetry.agent import heap

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

taken = [libc.malloc(1000) for _ in range(20_000)]
for address in taken:
    ctypes.memset(address, 1, 1000)
for address in taken[:-1]:  # the last lies above them
    libc.free(address)
before = resident_bytes()
tidying = heap.Tidying(0.01)
tidying.start()
deadline = time.monotonic() + 30
while resident_bytes() > before - 15e6 and time.monotonic() < deadline:
    time.sleep(0.01)
tidying.stop()
print(resident_bytes() <= before - 15e6)
"""


def is_true(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return {"True": True, "False": False}[done.stdout.strip()]


def test_what_a_thread_asks_for_lies_in_the_processs_own_heap():
    assert is_true(WHERE.format(share="heap.share()"))
    assert not is_true(WHERE.format(share=""))


def test_what_lies_free_is_given_back_to_the_kernel():
    assert is_true(GIVEN_BACK)
