"""Hours on one clock, put together without looking at each sample."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry.store import straight
from telemetry.store.chunks import HOUR_MS, DeviceHour, Series, Stretch
from telemetry.store.gather import Gathering
from telemetry.store.samples import milliseconds

T0 = 1_800_000_000_000 // HOUR_MS * HOUR_MS
GPU = "GPU-0"


def hour(number, offsets, present, *, segment=0):
    """Return an hour with metric 1 at all of its ticks and metric 2 at those that are `present`."""
    times = T0 + number * HOUR_MS + np.array(offsets, np.int64)
    ticks = np.flatnonzero(present[: times.size])
    series = {1: Series(None, times % 997)} | ({2: Series(ticks, times[ticks] % 991)} if ticks.size else {})
    return DeviceHour((Stretch("ab", segment, 1.0 + number, times.size),), times, series)


offsets = st.lists(st.integers(0, HOUR_MS - 1), min_size=1, max_size=20, unique=True).map(sorted)
hours = st.lists(st.tuples(offsets, st.lists(st.booleans(), min_size=20, max_size=20)), min_size=1, max_size=3)


@settings(deadline=None)  # a busy machine is no fault
@given(hours, st.integers(-1, 3 * HOUR_MS), st.integers(0, 3 * HOUR_MS))
def test_it_finds_what_gathering_finds(found, begin, span):
    made = [hour(number, *each) for number, each in enumerate(found)]
    gathering = Gathering()
    for each in made:
        gathering.add_hour(GPU, each)
    expected = gathering.gathered().between(T0 + begin, T0 + begin + span)

    by_number = {each.number: each for each in straight.joined(made, T0 + begin, T0 + begin + span)}

    assert sorted(by_number) == sorted(number for _, number in expected.series)
    for row, (_, number) in enumerate(expected.series):
        there = expected.present[row]
        assert by_number[number].times_ms.tolist() == expected.times_ms[there].tolist()
        assert by_number[number].steps.tolist() == expected.steps[row, there].tolist()
        assert by_number[number].intervals_ms.tolist() == milliseconds(expected.seconds[there]).tolist()


def test_metrics_of_the_same_times_share_them():
    made = [hour(0, [0, 1000], [True, True]), hour(1, [0, 1000], [True, True])]
    made = [DeviceHour(each.stretches, each.times_ms, {1: each.series[1], 3: each.series[1]}) for each in made]

    one, other = straight.joined(made, T0, T0 + 2 * HOUR_MS)

    assert one.times_ms is other.times_ms


def test_two_clocks_are_not_straight():
    assert straight.is_straight([hour(0, [0], [True]), hour(1, [0], [True])])
    assert not straight.is_straight([hour(0, [0], [True]), hour(1, [0], [True], segment=1)])
