"""A counter as growth per second."""

import numpy as np
import pytest

from telemetry.charts import chart_groups
from telemetry.store.read import Bucketed, BucketedMetric, column

METRIC = "power_throttle_seconds_total"
HOUR = 3600


def rates(grew, step_seconds=HOUR, seconds_each=1.0):
    """Return the drawn rate of a counter that grew by one second a second, where samples stood `seconds_each` apart."""
    differences = np.array(grew, float)
    found = BucketedMetric(increase=differences * seconds_each, grew=differences)
    block = Bucketed(0, 0, step_seconds, [1000 * step_seconds * n for n in range(len(grew))], {"GPU": {METRIC: found}})
    _, drawn = chart_groups.arrays(block, "GPU", [METRIC])["traces"]
    return drawn["y"]


def test_a_bucket_with_a_gap_inside_has_no_rate():
    assert rates([HOUR, HOUR, HOUR / 2, HOUR, HOUR]) == [None, 1, None, 1, None]


def test_a_gap_in_two_buckets_leaves_no_rate_in_either():
    assert rates([HOUR, HOUR, HOUR / 2, HOUR / 2, HOUR, HOUR]) == [None, 1, None, None, 1, None]


def test_a_bucket_beside_an_empty_one_has_no_rate():
    assert rates([HOUR, HOUR, HOUR, np.nan, HOUR, HOUR, HOUR]) == [None, 1, None, None, None, 1, None]


def test_the_newest_bucket_which_is_not_full_costs_the_one_before_nothing():
    assert rates([HOUR, HOUR, HOUR, 10]) == [None, 1, 1, None]


def test_uneven_beats_are_no_gap():
    assert rates([5, 5, 4, 5, 5], step_seconds=5) == [None, 1, pytest.approx(0.8), 1, None]


def test_slower_sampling_is_no_gap():
    assert rates([360] * 4, seconds_each=10) == [None, 1, 1, None]


def told(increase, grew, grew_seconds, step_seconds=HOUR):
    columns = (np.array(values, float) for values in (increase, grew, grew_seconds))
    found = BucketedMetric(**dict(zip(("increase", "grew", "grew_seconds"), columns, strict=True)))
    return column(chart_groups._rate(found, step_seconds))


def test_buckets_that_are_covered_in_part_alike_have_the_rate_of_that_part():
    assert told([300, 300, 300], [600, 600, 600], [600, 600, 600]) == [0.5, 0.5, 0.5]


def test_a_bucket_of_which_only_some_differences_tell_their_time_has_no_rate():
    assert told([np.nan, HOUR, HOUR, HOUR], [np.nan, HOUR, HOUR, HOUR], [np.nan, 900, HOUR, HOUR]) == [None, None, 1, 1]


def test_rollups_of_before_stand_beside_those_that_tell_their_time():
    assert told([HOUR] * 4, [HOUR] * 4, [np.nan, np.nan, HOUR, HOUR]) == [None, 1, 1, 1]


def test_a_metric_that_the_store_does_not_have_is_a_gap():
    block = Bucketed(0, 0, HOUR, [0, HOUR * 1000], {})
    assert column(chart_groups.levels(block, "GPU", METRIC).mean) == [None, None]
