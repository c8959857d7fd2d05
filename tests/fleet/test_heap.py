"""The web process's heap, seen in a process of its own: what large blocks cost the second time."""

import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from fleet.web import heap

FAULTS = """
import resource, threading
from fleet.web import heap

{keep}
def page_faults_of_large_blocks():
    for n in range(30):
        if n == 10:
            before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        blocks = [bytes(3_000_000) + b"x" for _ in range(3)]
        del blocks
    print((resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before) / 20)

thread = threading.Thread(target=page_faults_of_large_blocks)
thread.start()
thread.join()
"""


def faults_of(program):
    # GLIBC_TUNABLES would set other limits.
    plain = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=plain)
    return float(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_a_large_answer_takes_the_memory_of_the_one_before():
    kept, given_back = faults_of(FAULTS.format(keep="heap.keep()")), faults_of(FAULTS.format(keep=""))
    assert kept < 50
    assert kept < given_back / 10


def test_what_the_c_library_refuses_is_no_error(monkeypatch, caplog):
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda _: SimpleNamespace(mallopt=lambda option, value: 0))
    caplog.set_level("DEBUG", "fleet.web.heap")

    heap.keep()

    assert caplog.text.count("mallopt refused") == 3
