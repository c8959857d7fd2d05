"""What a job sees of the machine around it while it measures."""

import multiprocessing
import os
import subprocess
import sys
import time

from training.reference import surroundings
from training.reference.surroundings import Moment, between


def spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def around(work) -> dict[str, float | None]:
    before, began = surroundings.now(), time.perf_counter()
    work()
    return between(before, surroundings.now(), time.perf_counter() - began)


def test_own_work_is_not_foreign():
    found = between(Moment(100.0, 5.0, 10), Moment(104.0, 9.0, 12), 2.0)

    assert found == {
        "foreign_cores": 0.0,
        "own_cores": 2.0,
        "involuntary_context_switches": 2,
        "longest_wait_share": None,
    }


def test_others_work_is_told_in_cores():
    assert between(Moment(100.0, 5.0, 0), Moment(106.0, 7.0, 0), 2.0)["foreign_cores"] == 2.0


def test_what_cannot_be_read_is_unknown():
    assert between(Moment(None, 5.0, 0), Moment(None, 7.0, 0), 2.0)["foreign_cores"] is None


def test_a_busy_process_on_its_only_core_is_seen():
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})  # the child inherits it: both share one core
    try:
        with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
            found = around(lambda: spin(1.0))
            other.kill()
    finally:
        os.sched_setaffinity(0, allowed)

    assert found["foreign_cores"] > 0.25
    assert found["involuntary_context_switches"] > 0
    assert found["longest_wait_share"] > 0.05


def test_the_thread_that_waited_longest_counts_from_its_start_on():
    before = Moment(0.0, 0.0, 0, {"1": 3.0, "2": 1.0})
    after = Moment(0.0, 0.0, 0, {"1": 3.1, "2": 1.2, "3": 0.4})

    assert between(before, after, 2.0)["longest_wait_share"] == 0.2


def test_a_process_that_the_job_itself_has_started_is_no_other():
    allowed = os.sched_getaffinity(0)
    # The helper inherits it, and keeps the whole of this core busy with the others.
    os.sched_setaffinity(0, {min(allowed)})
    helper = multiprocessing.get_context("fork").Process(target=spin, args=(60.0,))
    try:
        helper.start()
        found = around(lambda: time.sleep(2.0))
    finally:
        helper.kill()
        helper.join()
        os.sched_setaffinity(0, allowed)

    assert found["own_cores"] > 0.02  # a core that is shared with much else gives it less than one
    assert found["foreign_cores"] < 1.0 - found["own_cores"] + 0.05  # by so much may ticks of 10 ms be wrong
