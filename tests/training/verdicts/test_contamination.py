"""What marks a run as contaminated."""

import pytest

from training.verdicts.contamination import Surroundings, markers, of_result

QUIET = {"measured_seconds": 10.0, "involuntary_context_switches": 118, "foreign_cores": 0.02, "threads": 2}


def test_a_quiet_run_is_clean():
    assert markers(of_result(QUIET)) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"involuntary_context_switches": 1_684}, "84 involuntary context switches"),
        ({"foreign_cores": 0.9}, "0.9 of its cores busy"),
    ],
)
def test_each_disturbance_is_named(change, word):
    found = markers(of_result(QUIET | change))

    assert len(found) == 1
    assert word in found[0]


@pytest.mark.parametrize(("waited", "others"), [(0.003, 0.04), (0.4, 0.03), (0.03, 0.2)])
def test_switches_that_cost_little_are_no_mark(waited, others):
    """A kernel that lets each short task in at once counts many; threads wait for each other, too, without anybody else."""
    many = {"involuntary_context_switches": 3_000, "longest_wait_share": waited, "foreign_cores": others}

    assert markers(of_result(QUIET | many)) == []


def test_switches_that_cost_a_thread_its_time_are_a_mark_with_that_time():
    few = {"involuntary_context_switches": 400, "longest_wait_share": 0.09, "foreign_cores": 0.1}

    assert markers(of_result(QUIET | few)) == [
        "20 involuntary context switches a second and thread, which cost a thread 9% of its time (more than 5%)"
    ]


def test_beside_an_accelerators_job_a_few_busy_cores_are_no_mark():
    some, most = {"threads": 64, "foreign_cores": 6.0}, {"threads": 64, "foreign_cores": 40.0}

    assert markers(of_result(QUIET | some, is_on_accelerator=True)) == []
    assert len(markers(of_result(QUIET | most, is_on_accelerator=True))) == 1


def test_other_processes_on_the_device_are_named():
    assert markers(of_result(QUIET), ["a", "b"]) == ["others used the device: a, b"]
    assert markers(of_result(QUIET), "abcde") == ["others used the device: a, b, c and 2 more"]


def test_what_could_not_be_told_marks_nothing():
    assert markers(of_result({})) == []
    assert of_result({"foreign_cores": True}) == Surroundings(None, None, None, None)
