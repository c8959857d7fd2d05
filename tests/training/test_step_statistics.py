import csv
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.steps_made import START_MS, any_steps, lockstep
from training.steps import statistics
from training.steps.columns import StepKind, joined, of_arrays

MLPERF = Path(__file__).parent.parent / "data" / "mlperf_gpt3_64xh100" / "step_times.csv"
END_MS = START_MS + 1_000_000.0
cuts = st.lists(st.integers(-1000, 1_001_000), max_size=6)


def test_a_global_step_takes_as_long_as_its_slowest_rank():
    steps = of_arrays(
        {
            "rank": [0, 1, 0, 1],
            "number": [0, 0, 1, 1],
            "ended_ms": [1000, 1200, 2200, 2300],
            "seconds": [1.0, 1.2, 0.9, 1.1],
        }
    )
    found = statistics.global_steps(steps)
    assert found.seconds.tolist() == [1.2, 1.1]
    assert found.n_ranks.tolist() == [2, 2]


def test_a_number_that_two_starts_share_is_two_global_steps():
    again = lockstep([1.0], first=0, attempt=1, start_ms=START_MS + 60_000)
    assert statistics.global_steps(joined([lockstep([1.0]), again])).number.tolist() == [0, 0]


def test_warm_up_counts_neither_in_median_nor_in_p95():
    seconds = [60.0] + [1.0] * 99
    steps = lockstep(seconds, is_warmup=np.arange(100) == 0)
    found = statistics.step_times(statistics.global_steps(steps))
    assert (found.n_steps, found.median, found.p95, found.slowest, found.n_warmup) == (99, 1.0, 1.0, 1.0, 1)


def test_gpt_3s_recorded_steps_have_their_published_median():
    with MLPERF.open() as file:
        rows = list(csv.DictReader(file))
    steps = of_arrays(
        {
            "ended_ms": [float(row["time_ms"]) for row in rows],
            "seconds": [float(row["seconds"]) for row in rows],
            "number": np.arange(len(rows)),
            "kind": [StepKind.TRAIN if row["kind"] == "train" else StepKind.VALIDATION for row in rows],
        }
    )
    found = statistics.step_times(statistics.global_steps(steps))
    assert found.n_steps == 288
    assert found.median == pytest.approx(10.64, abs=0.005)


def test_a_rate_is_the_sum_over_ranks_over_the_windows_wall_time():
    steps = lockstep([1.0] * 10, 4, samples=8.0)
    found = statistics.rates(steps, START_MS, START_MS + 20_000, step_seconds=10.0)["samples"]
    assert found.amount == 10 * 4 * 8
    assert (found.per_second, found.per_step_second) == (16.0, 32.0)


def test_a_step_at_the_edge_counts_with_the_part_that_lies_inside():
    steps = lockstep([4.0], samples=100.0)
    assert statistics.rates(steps, START_MS + 1000, START_MS + 2000, 1.0)["samples"].amount == 25.0


def test_what_no_rank_tells_is_absent_with_the_reason():
    found = statistics.rates(lockstep([1.0] * 3), START_MS, END_MS, 3.0)["tokens"]
    assert (found.amount, found.per_second, found.reason) == (None, None, "the loop does not tell its tokens")
    none = statistics.rates(lockstep([1.0] * 3), 0.0, 1.0, 0.0)["tokens"]
    assert none.reason == "no training step in this window"


def test_a_rate_says_what_share_of_steps_it_knows():
    steps = lockstep([1.0] * 4, samples=np.array([8.0, np.nan, 8.0, 8.0]))
    found = statistics.rates(steps, START_MS, END_MS, 4.0)["samples"]
    assert (found.amount, found.told_share) == (24.0, 0.75)
    assert found.reason.startswith("75.0% of the steps tell their samples")


@settings(deadline=None)  # the machine may be busy
@given(any_steps(), cuts)
def test_rates_of_adjoining_windows_add_up(steps, places):
    edges = [START_MS - 100_000, *sorted(START_MS + place for place in places), END_MS + 100_000]
    whole = statistics.rates(steps, edges[0], edges[-1], 1.0)["samples"]
    parts = [statistics.rates(steps, a, b, 1.0)["samples"] for a, b in itertools.pairwise(edges)]
    assert sum(part.amount or 0.0 for part in parts) == pytest.approx(whole.amount or 0.0, rel=1e-6, abs=1e-6)


@settings(deadline=None)  # the machine may be busy
@given(any_steps(), st.randoms(use_true_random=False))
def test_the_order_in_which_steps_came_changes_nothing(steps, random):
    places = list(range(len(steps)))
    random.shuffle(places)
    shuffled = joined([steps.select(np.array([place], np.int64)) for place in places])
    one, other = (statistics.step_times(statistics.global_steps(each)) for each in (steps, shuffled))
    assert one == other


def test_phases_are_shares_of_the_steps_that_tell_them():
    steps = of_arrays(
        {"ended_ms": [1000, 3000, 4000], "seconds": [1.0, 1.0, 1.0], "number": [0, 1, 2]},
        {"data": [0.1, 0.3, np.nan], "forward": [0.5, np.nan, np.nan]},
    )
    found = statistics.phases(steps)
    assert found.shares == pytest.approx({"data": 0.2, "forward": 0.25})
    assert found.untold_share == pytest.approx(0.55)
    assert found.n_steps == 2


def test_a_loop_without_phases_has_no_shares():
    found = statistics.phases(lockstep([1.0] * 3))
    assert (found.shares, found.untold_share) == ({}, None)
