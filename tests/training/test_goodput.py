import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.steps_made import START_MS, any_steps, lockstep
from training.runs.goodput import Spent, goodput
from training.steps.columns import StepKind, joined, of_arrays


def at(seconds):
    return START_MS + seconds * 1000


def phase(kind, begins, seconds, rank=0):
    return of_arrays({"rank": [rank], "ended_ms": [at(begins + seconds)], "seconds": [seconds], "kind": [kind]})


def of(steps, first, last, **more):
    life = (float(steps.began_ms.min()), float(steps.ended_ms.max()))
    return goodput(steps, at(first), at(last), more.pop("life_ms", life), **more)


def test_steps_without_a_pause_are_all_goodput():
    found = of(lockstep([1.0] * 10, 4), 0, 10)
    assert found.share == pytest.approx(1.0)
    assert found.seconds[Spent.PRODUCTIVE] == pytest.approx(10)


def test_checkpoints_evaluation_warm_up_and_pauses_are_told_apart():
    steps = joined(
        [
            lockstep([4.0], is_warmup=True),
            lockstep([1.0] * 10, start_ms=at(4), first=1),
            phase(StepKind.CHECKPOINT, 14, 3),
            phase(StepKind.VALIDATION, 17, 2),
            lockstep([1.0] * 5, start_ms=at(19.5), first=11),
            lockstep([1.0] * 5, start_ms=at(60), first=16),
        ]
    )
    found = of(steps, 0, 65)
    assert {kind: round(seconds, 3) for kind, seconds in found.seconds.items() if seconds} == {
        Spent.WARMUP: 4, Spent.PRODUCTIVE: 20, Spent.CHECKPOINT: 3, Spent.EVALUATION: 2, Spent.BETWEEN: 0.5, Spent.STALL: 35.5,
    }  # fmt: skip
    assert found.share == pytest.approx(20 / 65)


def test_while_one_rank_writes_a_checkpoint_the_step_in_which_others_wait_is_not_productive():
    waiting = of_arrays({"rank": [1], "ended_ms": [at(6)], "seconds": [6.0]})
    found = of(joined([waiting, phase(StepKind.CHECKPOINT, 0, 4)]), 0, 6)
    assert found.seconds[Spent.CHECKPOINT] == pytest.approx(4)
    assert found.seconds[Spent.PRODUCTIVE] == pytest.approx(2)


def test_work_that_a_restart_did_again_is_lost_and_so_is_the_time_to_come_back():
    before = lockstep([1.0] * 20)
    after = lockstep([1.0] * 10, start_ms=at(50), first=15, attempt=1)
    found = of(joined([before, after]), 0, 60)
    assert found.seconds[Spent.REDONE] == pytest.approx(5)
    assert found.seconds[Spent.RESTART] == pytest.approx(30)
    assert found.seconds[Spent.PRODUCTIVE] == pytest.approx(25)


def test_a_start_that_counts_anew_does_not_say_whether_work_was_lost():
    steps = joined([lockstep([1.0] * 20), lockstep([1.0] * 10, start_ms=at(50), attempt=1)])
    found = of(steps, 0, 60)
    assert found.seconds[Spent.REDONE] == 0
    assert found.remark == "start 2 counts its steps from 0 on: whether it did work again is not told"


def test_a_later_start_outside_of_the_window_still_tells_what_was_lost():
    found = of(lockstep([1.0] * 20), 0, 20, attempts_from={0: 0, 1: 15})
    assert found.seconds[Spent.REDONE] == pytest.approx(5)


def test_a_step_that_hung_was_a_stall_but_for_its_usual_time():
    found = of(lockstep([1.0] * 10 + [60.0] + [1.0] * 10), 0, 80)
    assert found.seconds[Spent.STALL] == pytest.approx(59)
    assert [span.spent for span in found.spans] == [Spent.STALL]


def test_what_lies_outside_of_the_runs_life_does_not_count_against_it():
    found = of(lockstep([1.0] * 10), -90, 110)
    assert found.seconds[Spent.OUTSIDE] == pytest.approx(190)
    assert found.share == pytest.approx(1.0)
    assert of(lockstep([1.0] * 10), 500, 600).share is None


def test_a_running_run_that_is_silent_stalls():
    found = of(lockstep([1.0] * 10), 0, 100, life_ms=(at(0), at(100)))
    assert found.seconds[Spent.STALL] == pytest.approx(90)


windows = st.lists(st.integers(-100_000, 1_100_000), min_size=2, max_size=6, unique=True).map(sorted)


@settings(deadline=None)  # the machine may be busy
@given(any_steps(), windows)
def test_the_kinds_add_up_to_the_window_and_windows_to_the_whole(steps, places):
    life = (START_MS, START_MS + 1_000_000)
    edges = [START_MS + place for place in places]
    whole = goodput(steps, edges[0], edges[-1], life)
    assert sum(whole.seconds.values()) == pytest.approx((edges[-1] - edges[0]) / 1000, abs=1e-3)
    assert all(seconds >= -1e-6 for seconds in whole.seconds.values())
    parts = [goodput(steps, a, b, life) for a, b in itertools.pairwise(edges)]
    for kind in Spent:
        assert sum(part.seconds[kind] for part in parts) == pytest.approx(whole.seconds[kind], abs=1e-3)


@settings(deadline=None)  # the machine may be busy
@given(any_steps())
def test_the_order_in_which_steps_came_changes_nothing(steps):
    life = (START_MS, START_MS + 1_000_000)
    backwards = joined([steps.select(np.array([place], np.int64)) for place in reversed(range(len(steps)))])
    assert goodput(steps, *life, life).seconds == pytest.approx(goodput(backwards, *life, life).seconds)
