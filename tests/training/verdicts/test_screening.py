"""Screening one run against earlier ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.verdicts.screening import ALARM, FLEET_ALARM, Standing, alarm_for, screen

TIMES = [1.00, 1.01, 0.99, 1.02, 0.98, 1.00, 1.01, 0.99, 1.00, 1.00]
positive = st.floats(0.01, 100)
baselines = st.lists(positive, min_size=5, max_size=20)


@pytest.mark.parametrize(
    ("n", "standing"),
    [(0, Standing.NONE), (4, Standing.NONE), (5, Standing.ADVISORY), (9, Standing.ADVISORY), (10, Standing.FULL)],
)
def test_it_says_what_the_baseline_is_worth(n, standing):
    assert screen(1.0, TIMES[:n]).standing == standing


def test_without_a_baseline_nothing_is_said_of_the_run():
    found = screen(5.0, TIMES[:4])

    assert (found.z, found.deviation, found.is_alarm, found.n) == (None, None, False, 4)


def test_z_is_counted_in_robust_deviations_with_a_floor_of_3_percent():
    found = screen(1.12, TIMES)

    assert found.z == pytest.approx(0.12 / 0.03)  # 1.4826 × MAD is 1.1 % here: below the floor
    assert found.is_alarm


def test_a_baseline_that_varies_more_than_the_floor_sets_the_scale():
    found = screen(1.3, [0.8, 0.9, 1.0, 1.1, 1.2])

    assert found.z == pytest.approx(0.3 / (1.4826 * 0.1))


def test_a_faster_run_is_no_alarm():
    assert not screen(0.5, TIMES).is_alarm


def test_of_a_rate_the_lower_is_the_worse():
    found = screen(80.0, [100.0] * 10, is_lower_better=False)

    assert found.z == pytest.approx(20 / 3)
    assert found.deviation == pytest.approx(-0.2)


def test_a_whole_fleet_is_screened_with_the_higher_threshold():
    assert alarm_for(1) == ALARM
    assert alarm_for(200) == FLEET_ALARM
    assert screen(1.12, TIMES).is_alarm
    assert not screen(1.12, TIMES, alarm_at=FLEET_ALARM).is_alarm


@given(baseline=baselines, value=positive, factor=st.floats(0.01, 100))
def test_another_unit_changes_nothing(baseline, value, factor):
    one, other = screen(value, baseline), screen(value * factor, [each * factor for each in baseline])

    assert one.z == pytest.approx(other.z, rel=1e-6, abs=1e-9)
    assert one.deviation == pytest.approx(other.deviation, rel=1e-6, abs=1e-9)


@given(baseline=baselines, value=positive)
def test_the_order_of_the_baseline_changes_nothing(baseline, value):
    assert screen(value, baseline) == screen(value, sorted(baseline))


@given(baseline=baselines, value=positive, slower=st.floats(1.0, 10))
def test_a_slower_run_never_has_a_smaller_z(baseline, value, slower):
    assert screen(value * slower, baseline).z >= screen(value, baseline).z
