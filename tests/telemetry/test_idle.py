"""What idle devices waste: long enough, from the beginning, and the same whatever the spans it is asked for in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.store.idle import LOOK_BACK, booked

BUSY, IDLE, UNKNOWN = 0.9, 0.01, np.nan


def waste(minutes):
    """Return what is booked in each minute of one device that draws a joule a minute, busy before."""
    utilisation = np.array([[BUSY] * LOOK_BACK + minutes])
    return booked(utilisation, np.ones_like(utilisation))[0].tolist()


def test_ten_idle_minutes_are_no_waste():
    assert waste([IDLE] * 10 + [BUSY]) == [0] * 11


def test_the_eleventh_books_all_of_them_and_the_next_ones_themselves():
    assert waste([IDLE] * 13 + [BUSY]) == [0] * 10 + [11, 1, 1, 0]


def test_a_minute_without_samples_ends_a_stretch():
    assert sum(waste([IDLE] * 8 + [UNKNOWN] + [IDLE] * 8)) == 0


@pytest.mark.parametrize(("utilisation", "expected"), [(0.049, 11), (0.05, 0)])
def test_idle_is_below_five_percent(utilisation, expected):
    assert sum(waste([utilisation] * 11)) == expected


@given(st.lists(st.sampled_from([BUSY, IDLE, IDLE, IDLE, IDLE, UNKNOWN]), min_size=1, max_size=90), st.data())
def test_any_split_of_the_time_books_the_same(minutes, data):
    cut = data.draw(st.integers(0, len(minutes)))
    utilisation = np.array([[BUSY] * LOOK_BACK + minutes])
    joules = np.arange(utilisation.size, dtype=float).reshape(1, -1)

    whole = booked(utilisation, joules)[0].tolist()
    parts = [booked(utilisation[:, : LOOK_BACK + cut], joules[:, : LOOK_BACK + cut])] if cut else []
    parts += [booked(utilisation[:, cut:], joules[:, cut:])] if cut < len(minutes) else []

    assert np.concatenate(parts, axis=1)[0].tolist() == whole
