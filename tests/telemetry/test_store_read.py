"""Series at the resolution that fits the range."""

from datetime import UTC, datetime

import numpy as np
import pytest

from fleet.models import Device
from telemetry.models import Rollup, StoredBatch
from telemetry.rollups import join, roll_up
from telemetry.store import across, read
from telemetry.store.read import column
from tests.telemetry.batches import GPU, payload, take

T0 = 1_800_000_000_000 // 86_400_000 * 86_400_000
NOW = datetime.fromtimestamp(T0 / 1000 + 86_400, UTC)
DAY = 86_400_000

pytestmark = pytest.mark.django_db


def store(times, columns, **kwargs):
    take(payload(times, columns, **kwargs), NOW)
    return Device.objects.get()


def series(device, metric, start_ms, end_ms, points=100):
    block = read.bucketed([device], [metric], start_ms, end_ms, points)
    return block, block.of(GPU.uuid, metric)


def test_a_gap_is_a_gap():
    device = store([T0, T0 + 1000, T0 + 10_000, T0 + 11_000], {"power_draw_watts": [100, 200, 300, 500]})

    block, found = series(device, "power_draw_watts", T0, T0 + 12_000, 7)

    assert block.step_seconds == 2
    assert column(found.mean) == [150, None, None, None, None, 400]
    assert (found.minimum[0], found.maximum[0]) == (100, 200)


def test_regular_samples_are_answered_one_by_one():
    device = store([T0 + 1000 * n + 300 for n in range(60)], {"power_draw_watts": list(range(60))})

    block, found = series(device, "power_draw_watts", T0, T0 + 60_000)

    assert block.step_seconds == 1
    assert column(found.mean) == list(range(60))


def test_the_first_bucket_holds_what_lies_before_the_start_in_it():
    device = store([T0 + 60_000 * n for n in range(60)], {"power_draw_watts": list(range(60))}, sample_seconds=60)

    block, found = series(device, "power_draw_watts", T0 + 645_000, T0 + 3_600_000, 300)

    assert (block.step_seconds, block.times_ms[0]) == (60, T0 + 600_000)
    assert column(found.mean) == list(range(10, 60))


def test_samples_that_beat_unevenly_leave_no_bucket_empty():
    times = [T0 + 1000 * n - n % 2 for n in range(60)]
    device = store(times, {"power_draw_watts": [5.0] * 60})

    block, found = series(device, "power_draw_watts", T0, T0 + 60_000)

    assert block.step_seconds == 2
    assert column(found.mean) == [5] * 30


def test_a_counter_answers_its_increase_and_a_reset_adds_nothing():
    times = [T0 + 1000 * n for n in range(6)]
    device = store(times, {"energy_joules_total": [1000, 1300, 1600, 50, 350, 650]})

    _, found = series(device, "energy_joules_total", T0, T0 + 6000, 4)

    assert column(found.increase) == [300, 300, 600]


def test_the_number_of_points_is_never_above_what_was_asked_for():
    device = store([T0, T0 + 1000], {"power_draw_watts": [1, 2]})
    for points in (1, 2, 10, 333, 4000):
        block, _ = series(device, "power_draw_watts", T0 - 7_777_777, T0 + 1234, points)
        assert len(block.times_ms) <= max(points, 2)


@pytest.mark.parametrize(("days", "step"), [(0.2, 120), (1, 900), (30, 14_400), (400, 172_800)])
@pytest.mark.parametrize("joins", [False, True])
def test_long_ranges_read_rollups_and_agree_with_the_samples(days, step, joins):
    watts = [100.0 + n % 61 for n in range(7200)]
    device = store([T0 + 1000 * n for n in range(7200)], {"power_draw_watts": watts})
    roll_up(60, NOW)
    if joins:
        join(60, NOW)

    end_ms = T0 + 7_200_000
    block, found = series(device, "power_draw_watts", int(end_ms - days * DAY), end_ms, 250)

    assert block.step_seconds == step
    known = ~np.isnan(found.mean)
    assert (found.minimum[known].min(), found.maximum[known].max()) == (100, 160)
    weights = np.bincount((np.arange(7200) * 1000 + T0 - block.times_ms[0]) // round(1000 * block.step_seconds))
    assert (found.mean[known] @ weights[weights > 0]) / 7200 == pytest.approx(np.mean(watts))


def test_what_is_older_than_the_samples_is_read_from_the_rollups():
    device = store([T0 + 1000 * n for n in range(120)], {"power_draw_watts": [100.0] * 120})
    roll_up(30, NOW)
    StoredBatch.objects.all().delete()

    _, found = series(device, "power_draw_watts", T0, T0 + 120_000)

    assert column(found.mean) == [100, 100]


def test_what_is_older_than_the_minutes_is_read_from_coarser_rollups():
    device = store([T0 + 1000 * n for n in range(7200)], {"power_draw_watts": [100.0] * 7200})
    roll_up(60, NOW)
    StoredBatch.objects.all().delete()
    for step, before_ms in ((60, T0 + 2 * DAY), (900, T0 + 3_600_000)):
        Rollup.objects.filter(step_seconds=step, start_ms__lt=before_ms).delete()

    block, found = series(device, "power_draw_watts", T0, T0 + 7_200_000)

    assert block.step_seconds == 3600
    assert column(found.mean) == [100, 100]


def test_the_newest_minutes_are_read_from_finer_rollups_and_samples():
    device = store([T0 + 1000 * n for n in range(2000)], {"power_draw_watts": [100.0] * 2000})
    roll_up(60, datetime.fromtimestamp(T0 / 1000 + 1980, UTC))

    block, found = series(device, "power_draw_watts", T0 - 30 * DAY, T0 + 2_000_000, 4000)

    assert block.step_seconds == 900
    assert column(found.mean[-3:]) == [100, 100, 100]


def test_before_the_first_rollup_is_made_the_samples_are_read():
    device = store([T0 + 1000 * n for n in range(30)], {"power_draw_watts": [100.0] * 30})

    _, found = series(device, "power_draw_watts", T0 - 30 * DAY, T0 + 30_000)

    assert column(found.mean)[-1] == 100


def test_a_counter_is_not_counted_across_a_gap_whatever_the_resolution():
    times = [T0, T0 + 1000, T0 + 1_200_000, T0 + 1_201_000]
    device = store(times, {"energy_joules_total": [0.0, 100.0, 120_000.0, 120_100.0]})
    roll_up(30, NOW)

    for span_ms in (1_260_000, 30 * DAY):
        _, found = series(device, "energy_joules_total", T0 + 1_260_000 - span_ms, T0 + 1_260_000, 4000)
        assert np.nansum(found.increase) == 200


def test_growth_that_could_not_be_counted_is_unknown_and_not_zero():
    device = store([T0, T0 + 300_000], {"energy_joules_total": [0.0, 90_000.0]})
    roll_up(30, NOW)

    for span_ms in (360_000, 30 * DAY):
        _, found = series(device, "energy_joules_total", T0 + 360_000 - span_ms, T0 + 360_000, 4000)
        assert np.isnan(found.increase).all()


def test_a_counter_that_is_sampled_slowly_is_counted_from_sample_to_sample():
    times, joules = [T0 + 60_000 * n for n in range(5)], [18_000.0 * n for n in range(5)]
    device = store(times, {"energy_joules_total": joules}, sample_seconds=60)
    roll_up(30, NOW)

    for span_ms in (300_000, 30 * DAY):
        _, found = series(device, "energy_joules_total", T0 + 300_000 - span_ms, T0 + 300_000, 4000)
        assert np.nansum(found.increase) == 72_000


def test_a_state_of_a_long_range_is_told_in_seconds_at_each_value():
    device = store([T0 + 1000 * n for n in range(120)], {"clock_event_reasons": [0] * 60 + [4] * 60})
    roll_up(30, NOW)

    _, found = series(device, "clock_event_reasons", T0 - 30 * DAY, T0 + 120_000)

    assert {value: np.nansum(seconds) for value, seconds in found.seconds.items()} == {0: 60, 4: 61}


def test_a_state_that_holds_into_a_minute_without_a_sample_is_told():
    device = store([T0 + 1000 * n + 500 for n in range(60)], {"allocation": [2.0] * 60})
    roll_up(60, NOW)

    _, found = series(device, "allocation", T0 + 60_000, T0 + 60_000 + 3 * 3_600_000, 400)

    assert {value: column(seconds)[:2] for value, seconds in found.seconds.items()} == {2: [1.5, None]}


def test_of_no_device_there_is_no_series():
    for span_ms in (60_000, DAY):
        assert read.bucketed([], ["power_draw_watts"], T0, T0 + span_ms, 100).series == {}


@pytest.mark.parametrize("span_ms", [60_000, DAY])
def test_an_increase_tells_how_many_differences_it_is_the_sum_of(span_ms):
    device = store([T0 + 1000 * n for n in range(60)], {"energy_joules_total": [300.0 * n for n in range(60)]})
    roll_up(60, NOW)

    _, found = series(device, "energy_joules_total", T0, T0 + span_ms, 10)

    assert (np.nansum(found.grew), np.nansum(found.grew_seconds)) == (59, 59)
    assert np.isnan(found.grew).tolist() == np.isnan(found.increase).tolist()


def block_of(*columns, step=2, now_ms=0):
    times_ms = [1000 * step * n for n in range(len(columns[0]))]
    return across.of_series(times_ms, [np.array(mean, float) for mean in columns], now_ms=now_ms)


def test_across_devices_gives_mean_percentiles_and_sum():
    found = block_of(*([10.0 * n * n, np.nan] for n in range(11)))

    assert [column(each) for each in (found.mean, found.p10, found.p50, found.p90, found.total)] == [
        [350, None], [10, None], [250, None], [810, None], [3850, None]
    ]  # fmt: skip


def test_the_sum_does_not_fall_where_some_devices_are_still_on_their_way():
    assert column(block_of([1, 1, 1, 1], [1, 1, 1, np.nan]).total) == [2, 2, 2, None]


def test_the_sum_falls_where_a_device_stays_away():
    gone = [1, 1, np.nan, np.nan, np.nan, np.nan]
    assert column(block_of([1] * 6, gone).total) == [2, 2, 1, 1, 1, 1]


@pytest.mark.parametrize("step", [60, 3600])
def test_a_device_that_was_lost_minutes_ago_hides_no_bucket(step):
    now_ms = 1000 * step * 2 + across.YOUNG_MS

    assert column(block_of([1] * 4, [1, 1, 1, np.nan], step=step, now_ms=now_ms + 1000 * step).total) == [2, 2, 2, 1]
    assert column(block_of([1] * 4, [1, 1, np.nan, np.nan], step=step, now_ms=now_ms).total) == [2, 2, 1, 1]
