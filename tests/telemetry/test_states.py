"""Seconds at each value of a state."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.store.read import column
from telemetry.store.samples import Samples
from telemetry.store.states import seconds_per_value

T0 = 1_800_000_000_000


def columns(found, *shape):
    return {value: column(seconds) for value, seconds in seconds_per_value(found, T0, *shape).items()}


def samples(*points):
    times, values = np.array([at for at, _ in points], np.int64), np.array([value for _, value in points], float)
    return Samples(times, values, np.zeros_like(times), np.full_like(times, 1000))


def test_each_sample_holds_until_the_next():
    found = samples((T0, 0), (T0 + 1000, 4), (T0 + 2000, 4), (T0 + 3500, 0))

    assert columns(found, 2000, 3, 2) == {0: [1, 0.5, 1.5], 4: [1, 1.5, 0]}


def test_a_gap_counts_as_nothing():
    found = samples((T0, 1), (T0 + 20_000, 1))

    assert columns(found, 5000, 5, 2) == {1: [2, None, None, None, 2]}


def test_each_sample_holds_for_its_own_interval_and_not_for_the_longest():
    found = samples((T0, 1), (T0 + 20_000, 1))
    found.intervals_ms[1] = 10_000

    assert columns(found, 5000, 8, 2) == {1: [2, None, None, None, 5, 5, 5, 5]}


def test_no_sample_is_no_value():
    assert columns(samples(), 5000, 5, 2) == {}


@given(
    st.lists(st.integers(0, 40_000), min_size=1, max_size=60, unique=True),
    st.lists(st.integers(0, 3), min_size=60, max_size=60),
)
def test_the_seconds_of_all_values_add_up_to_what_the_samples_cover(offsets, values):
    times = sorted(offsets)
    found = samples(*((T0 + at, value) for at, value in zip(times, values, strict=False)))
    ends = [*times[1:], times[-1] + 2000]
    covered = sum(min(end - at, 2000) for at, end in zip(times, ends, strict=True)) / 1000

    by_value = columns(found, 2000, 22, 2)

    table = np.array([[seconds or 0 for seconds in column] for column in by_value.values()])
    assert table.sum() == pytest.approx(covered)
    assert table.sum(axis=0).max() <= 2.000001
