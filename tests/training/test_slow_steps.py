import numpy as np
import pytest

from tests.training.straggler_noise import gpt_3
from tests.training.test_stragglers import steps_of
from training.runs.slow_steps import slow_steps
from training.steps.columns import of_arrays


def made(n_steps=100, n_ranks=4, seed=1):
    return gpt_3().compute(n_steps, n_ranks, np.random.default_rng(seed))


def test_a_slow_step_is_found_with_the_rank_that_computed_longest():
    compute = made()
    compute[60, 2] *= 2
    (found,) = slow_steps(steps_of(compute))
    assert (found.number, found.rank) == (60, 2)
    assert found.times == pytest.approx(2, abs=0.05)
    assert found.usual_seconds == pytest.approx(10.84, abs=0.05)


def test_without_compute_times_no_rank_is_to_blame():
    compute = made()
    compute[60, 2] *= 2
    (found,) = slow_steps(steps_of(compute, compute_seconds=np.full(400, np.nan)))
    assert found.rank is None


def test_recorded_noise_has_no_slow_step_and_the_costliest_comes_first():
    assert slow_steps(steps_of(made(2000))) == []
    compute = made()
    compute[20] *= 1.5
    compute[70] *= 3
    compute[80] *= 1.3
    assert [found.number for found in slow_steps(steps_of(compute), limit=2)] == [70, 20]


def test_the_wait_for_data_goes_with_the_step():
    seconds = np.full(50, 1.0)
    seconds[30] = 4.0
    waited = np.full(50, 0.1)
    waited[30] = 3.0
    steps = of_arrays(
        {"ended_ms": 1000 * np.cumsum(seconds), "seconds": seconds, "number": np.arange(50)}, {"data": waited}
    )
    (found,) = slow_steps(steps)
    assert (found.rank, found.data_seconds, found.usual_data_seconds) == (0, 3.0, 0.1)


def test_a_run_of_a_few_steps_has_nothing_usual():
    assert slow_steps(steps_of(made(9))) == []


def test_a_run_that_grew_slower_for_good_is_not_slow_step_by_step():
    compute = made(2560)
    compute[1280:] *= 1.5
    assert slow_steps(steps_of(compute)) == []
