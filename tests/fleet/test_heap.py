"""The web process's heap, seen in a process of its own: what large blocks cost the second time."""

import subprocess
import sys

FAULTS = """
import resource, threading
from fleet import heap

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
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return float(done.stdout)


def test_a_large_answer_takes_the_memory_of_the_one_before():
    assert faults_of(FAULTS.format(keep="heap.keep()")) < 50
    assert faults_of(FAULTS.format(keep="")) > 500
