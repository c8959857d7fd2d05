"""One heap for all threads, seen where the C library puts what a thread asks for."""

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


def is_in_the_processs_heap(share):
    done = subprocess.run([sys.executable, "-c", WHERE.format(share=share)], capture_output=True, text=True, check=True)
    return {"True": True, "False": False}[done.stdout.strip()]


def test_what_a_thread_asks_for_lies_in_the_processs_own_heap():
    assert is_in_the_processs_heap("heap.share()")
    assert not is_in_the_processs_heap("")
