"""Change points in a history of runs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.verdicts.history import FEWEST_POINTS, changes


def history(seed: int, *levels: tuple[int, float], cv: float = 0.02) -> list[float]:
    rng = np.random.default_rng(seed)
    return [level * float(np.exp(rng.normal(0, cv))) for count, level in levels for _ in range(count)]


def test_it_finds_the_run_from_which_a_device_was_slower():
    found = changes(history(1, (25, 1.0), (20, 1.1)))

    assert len(found) == 1
    assert abs(found[0].index - 25) <= 1
    assert found[0].ratio == pytest.approx(1.1, abs=0.02)


def test_it_finds_a_slow_down_and_its_mending():
    found = changes(history(2, (20, 1.0), (20, 1.15), (20, 1.0)))

    assert [round(each.ratio > 1) for each in found] == [1, 0]


def test_below_30_runs_it_says_nothing():
    assert changes(history(3, (15, 1.0), (FEWEST_POINTS - 16, 2.0))) == []


def test_runs_that_agree_exactly_have_no_change():
    assert changes([1.0] * 40) == []


def test_even_histories_are_left_alone():
    found = [changes(history(seed, (40, 1.0), cv=0.04)) for seed in range(100)]

    assert sum(map(bool, found)) <= 4  # 1 % of them expected


@settings(max_examples=20, deadline=None)
@given(factor=st.floats(0.01, 100))
def test_another_unit_changes_nothing(factor):
    values = history(5, (20, 1.0), (20, 1.1))

    assert [each.index for each in changes([factor * value for value in values])] == [
        each.index for each in changes(values)
    ]
