"""Energy in buckets: what sums must hold, whatever the buckets, gaps, resets and clocks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.store import joules
from telemetry.store.samples import Samples

T0 = 1_800_000_000_000


def samples(values, *, times_s=None, clocks=None, interval_ms=1000):
    times = T0 + 1000 * np.array(times_s if times_s is not None else range(len(values)), np.int64)
    return Samples(
        times,
        np.array(values, float),
        np.zeros(len(values), np.int64) if clocks is None else np.array(clocks),
        np.full(len(values), interval_ms) if isinstance(interval_ms, int) else np.array(interval_ms),
    )


def test_a_counter_is_shared_out_to_the_buckets_that_it_grew_in():
    counter = samples([0, 300], times_s=[5, 8], interval_ms=3000)

    found = joules.per_bucket(counter, None, T0 + 6000, 1000, 3)

    assert found.measured.tolist() == [100, 100, 0]
    assert found.covered_seconds.tolist() == [1, 1, 0]


def test_a_counter_that_falls_was_reset_and_power_stands_in_for_that_time():
    counter, power = samples([900, 1000, 50, 150]), samples([100, 100, 80, 100])

    found = joules.per_bucket(counter, power, T0, 3000, 1)

    assert found.measured.tolist() == [200]
    assert found.estimated.tolist() == [90]
    assert found.covered_seconds.tolist() == [3]


def test_a_gap_is_not_bridged():
    power = samples([100, 100, 100, 100], times_s=[0, 1, 11, 12])

    found = joules.per_bucket(None, power, T0, 12_000, 1)

    assert (found.estimated.tolist(), found.covered_seconds.tolist()) == ([200], [2])


def test_a_gap_in_one_stretch_is_none_in_a_slower_one():
    seconds, intervals = [0, 1, 11, 12, 22, 32], [1000, 1000, 1000, 10_000, 10_000, 10_000]
    power = samples([100] * 6, times_s=seconds, interval_ms=intervals)

    found = joules.per_bucket(None, power, T0, 12_000, 3)

    assert found.covered_seconds.tolist() == [2, 12, 8]


def test_two_clocks_are_never_joined():
    counter = samples([0, 100, 900, 1000], clocks=[0, 0, 1, 1])

    assert joules.per_bucket(counter, None, T0, 4000, 1).measured.tolist() == [200]


def test_power_is_interpolated_at_the_edges_of_buckets():
    power = samples([0, 200], times_s=[0, 2], interval_ms=2000)

    found = joules.per_bucket(None, power, T0, 1000, 2)

    assert found.estimated.tolist() == [50, 150]


def test_what_the_counter_covers_is_not_estimated_besides():
    counter, power = samples([0, 100, 200]), samples([90, 90, 90])

    found = joules.per_bucket(counter, power, T0, 2000, 1)

    assert (found.measured.tolist(), found.estimated.tolist()) == ([200], [0])


def test_nothing_known_covers_nothing():
    found = joules.per_bucket(None, samples([100]), T0, 1000, 2)

    assert found.covered_seconds.tolist() == [0, 0]


@st.composite
def readings(draw):
    times = np.cumsum(draw(st.lists(st.integers(200, 6000), min_size=2, max_size=60)))
    watts = draw(st.lists(st.integers(0, 700), min_size=len(times), max_size=len(times)))
    clocks = np.cumsum(draw(st.lists(st.sampled_from([0, 0, 0, 0, 1]), min_size=len(times), max_size=len(times))))
    return Samples(
        T0 + times.astype(np.int64), np.array(watts, float), clocks.astype(np.int64), np.full(len(times), 1500)
    )


@given(readings(), readings(), st.sampled_from([250, 1000, 7000, 60_000]))
def test_finer_buckets_add_up_to_the_whole(counter, power, step_ms):
    counter = Samples(counter.times_ms, counter.values.cumsum(), counter.clocks, counter.intervals_ms)
    span = 420_000

    fine = joules.per_bucket(counter, power, T0, step_ms, -(-span // step_ms))
    whole = joules.per_bucket(counter, power, T0, span, 1)

    assert fine.measured.sum() == pytest.approx(whole.measured[0])
    assert fine.estimated.sum() == pytest.approx(whole.estimated[0])
    assert fine.covered_seconds.sum() == pytest.approx(whole.covered_seconds[0])
