"""From a ladder's processes to the result of each rung."""

import pytest

from training.ladder.climb import Process, climb
from training.ladder.speedup import Word

NAMES = ["fp32 eager", "TF32", "compile"]
SPREAD = [1.0, 1.01, 0.99, 1.005, 0.995]


def process(block: int, rung: int, seconds: float, **fields: object) -> Process:
    facts = {"first_step_seconds": seconds, "steps": 50, "loss_start": 4.0, "loss_end": 3.0}
    return Process(block, rung, 100 * block + rung, step_seconds=seconds, **facts | fields)


def ladder(compile_seconds: float = 20.0, **fields: object) -> list[Process]:
    first = [process(block, 0, each) for block, each in enumerate(SPREAD)]
    top = [
        process(b, 2, 0.5 * each, **{"first_step_seconds": 0.5 * each + compile_seconds} | fields)
        for b, each in enumerate(SPREAD)
    ]
    return first + top


def test_k_is_over_the_first_rung_and_the_first_is_1():
    first, _, top = climb(NAMES, {1: "it has no TF32"}, ladder(), 5)

    assert (first.steady.k, first.steady.word) == (1.0, Word.EQUIVALENT)
    assert (top.steady.k, top.steady.word) == (pytest.approx(2.0), Word.FASTER)


def test_a_rung_that_is_not_offered_says_why():
    result = climb(NAMES, {1: "it has no TF32"}, ladder(), 5)[1]

    assert (result.why_not, result.steady) == ("it has no TF32", None)


def test_with_compilation_a_short_run_is_slower():
    top = climb(NAMES, {1: "no"}, ladder(), 5)[2]

    assert top.compile_seconds == pytest.approx(20.0)
    assert top.with_compilation.k == pytest.approx(1 / (0.5 + 20 / 50), rel=0.01)
    assert top.steps_to_pay == 40


def test_a_rung_that_is_slower_is_shown_as_it_is():
    processes = [process(b, 0, each) for b, each in enumerate(SPREAD)] + [
        process(b, 2, 1.4 * each) for b, each in enumerate(SPREAD)
    ]

    top = climb(NAMES, {1: "no"}, processes, 5)[2]

    assert (top.steady.word, top.steps_to_pay) == (Word.SLOWER, None)
    assert top.steady.k == pytest.approx(1 / 1.4)


@pytest.mark.parametrize(("loss_end", "is_changed"), [(3.05, False), (3.3, True), (2.5, True)])
def test_a_rung_that_changes_the_loss_is_marked(loss_end, is_changed):
    assert climb(NAMES, {1: "no"}, ladder(loss_end=loss_end), 5)[2].changes_loss is is_changed


def test_contaminated_and_failed_processes_are_left_out_and_named():
    processes = ladder()
    processes[5] = process(0, 2, 9.0, markers=["others kept 1.0 of its cores busy"])
    processes[6] = Process(1, 2, 77, failure="out of memory")

    top = climb(NAMES, {1: "no"}, processes, 5)[2]

    assert top.steady.n_blocks == 3
    assert top.left_out == ("job 2: others kept 1.0 of its cores busy", "job 77: out of memory")


def test_a_rung_without_a_process_has_nothing_yet():
    assert climb(NAMES, {}, [], 5)[2].steady is None


def test_a_first_step_that_was_not_told_is_no_compilation_of_no_time():
    top = climb(NAMES, {1: "no"}, ladder(first_step_seconds=None), 5)[2]

    assert (top.with_compilation, top.compile_seconds, top.steps_to_pay) == (None, None, None)
    assert top.steady.k == pytest.approx(2.0)
