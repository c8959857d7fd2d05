"""Series at the resolution that fits the range."""

from datetime import UTC, datetime

import numpy as np
import pytest
from django.utils import timezone

from fleet.models import Device, Host
from telemetry.models import Chunk, MinuteRollup
from telemetry.rollups import roll_up
from telemetry.store import read
from tests.telemetry.batches import GPU, payload, take

T0 = 1_800_000_000_000 // 3_600_000 * 3_600_000
NOW = datetime.fromtimestamp(T0 / 1000 + 86_400, UTC)

pytestmark = pytest.mark.django_db


def store(times, columns, **kwargs):
    take(payload(times, columns, **kwargs), NOW)
    return Device.objects.get()


def test_a_gap_is_a_gap():
    device = store([T0, T0 + 1000, T0 + 10_000, T0 + 11_000], {"power_draw_watts": [100, 200, 300, 500]})

    block = read.bucketed([device], ["power_draw_watts"], T0, T0 + 12_000, 100)

    series = block.series[GPU.uuid]["power_draw_watts"]
    assert block.step_seconds == 2
    assert series.mean == [150, None, None, None, None, 400]
    assert (series.minimum[0], series.maximum[0]) == (100, 200)


def test_a_counter_answers_its_increase_and_a_reset_adds_nothing():
    times = [T0 + 1000 * n for n in range(6)]
    device = store(times, {"energy_joules_total": [1000, 1300, 1600, 50, 350, 650]})

    block = read.bucketed([device], ["energy_joules_total"], T0, T0 + 6000, 100)

    assert block.series[GPU.uuid]["energy_joules_total"].increase == [300, 300, 600]


def test_the_number_of_points_is_never_above_what_was_asked_for():
    device = store([T0, T0 + 1000], {"power_draw_watts": [1, 2]})
    for points in (1, 2, 10, 333, 4000):
        block = read.bucketed([device], ["power_draw_watts"], T0 - 7_777_777, T0 + 1234, points)
        assert len(block.times_ms) <= max(points, 2)


def test_long_ranges_read_the_minute_rollups_and_agree_with_the_samples():
    times = [T0 + 1000 * n for n in range(300)]
    watts = [100.0 + n % 60 for n in range(300)]
    device = store(times, {"power_draw_watts": watts})
    roll_up(30)

    long_range = read.bucketed([device], ["power_draw_watts"], T0 - 30 * 86_400_000, T0 + 300_000, 4000)

    series = long_range.series[GPU.uuid]["power_draw_watts"]
    assert long_range.step_seconds >= 60
    known = [
        (mean, low, high)
        for mean, low, high in zip(series.mean, series.minimum, series.maximum, strict=True)
        if mean is not None
    ]
    assert known == [(pytest.approx(np.mean(watts)), 100, 159)]


def test_a_late_batch_is_rolled_up_again():
    store([T0 + 30_000], {"power_draw_watts": [100]}, sequence=1)
    roll_up(30)
    store([T0 + 31_000], {"power_draw_watts": [300]}, sequence=0)
    roll_up(30)

    row = MinuteRollup.objects.get()
    assert (row.mean, row.count, row.last) == (200, 2, 300)


def test_across_devices_gives_mean_percentiles_and_sum():
    host = Host.objects.create(name="gpu-a01")
    block = read.Bucketed(0, 4000, 2, [0, 2000], {})
    uuids = [f"GPU-{n}" for n in range(11)]
    for n, uuid in enumerate(uuids):
        block.series[uuid] = {"power_draw_watts": read.BucketedMetric(mean=[n * 10.0, None])}

    across = read.across(block, "power_draw_watts", uuids)

    assert (across.mean, across.p10, across.p90, across.total) == (
        [50, None],
        [10, None],
        [90, None],
        [550, None],
    )
    assert host.is_silent(timezone.now())


def test_what_is_older_than_the_samples_is_read_from_the_rollups():
    device = store([T0 + 1000 * n for n in range(120)], {"power_draw_watts": [100.0] * 120})
    roll_up(30)
    Chunk.objects.all().delete()

    series = read.bucketed([device], ["power_draw_watts"], T0, T0 + 120_000, 100).series[GPU.uuid]

    assert series["power_draw_watts"].mean == [100, 100]


def test_a_counter_is_not_counted_across_a_gap_whatever_the_resolution():
    times = [T0, T0 + 1000, T0 + 1_200_000, T0 + 1_201_000]
    device = store(times, {"energy_joules_total": [0.0, 100.0, 120_000.0, 120_100.0]})
    roll_up(30)

    for span_ms in (1_260_000, 30 * 86_400_000):
        block = read.bucketed([device], ["energy_joules_total"], T0 + 1_260_000 - span_ms, T0 + 1_260_000, 4000)
        increase = block.series[GPU.uuid]["energy_joules_total"].increase
        assert sum(x for x in increase if x is not None) == 200


def test_a_late_batch_completes_the_growth_of_the_minute_after_it():
    store([T0 + 60_000, T0 + 61_000], {"energy_joules_total": [300.0, 600.0]}, sequence=1)
    roll_up(30)
    store([T0 + 59_000], {"energy_joules_total": [0.0]}, sequence=0)
    roll_up(30)

    assert [row.increase for row in MinuteRollup.objects.order_by("minute_ms")] == [None, 600]


def test_growth_that_could_not_be_counted_is_unknown_and_not_zero():
    device = store([T0, T0 + 300_000], {"energy_joules_total": [0.0, 90_000.0]})
    roll_up(30)

    assert set(MinuteRollup.objects.values_list("increase", flat=True)) == {None}
    for span_ms in (360_000, 30 * 86_400_000):
        block = read.bucketed([device], ["energy_joules_total"], T0 + 360_000 - span_ms, T0 + 360_000, 4000)
        assert set(block.series[GPU.uuid]["energy_joules_total"].increase) == {None}


def test_a_counter_that_is_sampled_slowly_is_counted_from_sample_to_sample():
    times, joules = [T0 + 60_000 * n for n in range(5)], [18_000.0 * n for n in range(5)]
    device = store(times, {"energy_joules_total": joules}, sample_seconds=60)
    roll_up(30)

    assert [row.increase for row in MinuteRollup.objects.order_by("minute_ms")] == [None, *[18_000] * 4]
    for span_ms in (300_000, 30 * 86_400_000):
        block = read.bucketed([device], ["energy_joules_total"], T0 + 300_000 - span_ms, T0 + 300_000, 4000)
        assert sum(x or 0 for x in block.series[GPU.uuid]["energy_joules_total"].increase) == 72_000


def test_the_sum_does_not_fall_where_some_devices_are_still_on_their_way():
    series = {
        "GPU-0": {"power_draw_watts": read.BucketedMetric(mean=[1.0, 1.0, 1.0, 1.0])},
        "GPU-1": {"power_draw_watts": read.BucketedMetric(mean=[1.0, 1.0, 1.0, None])},
    }
    block = read.Bucketed(0, 8000, 2, [0, 2000, 4000, 6000], series)

    assert read.across(block, "power_draw_watts", ["GPU-0", "GPU-1"]).total == [2, 2, 2, None]


def test_the_sum_falls_where_a_device_stays_away():
    mean = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    series = {
        "GPU-0": {"power_draw_watts": read.BucketedMetric(mean=mean)},
        "GPU-1": {"power_draw_watts": read.BucketedMetric(mean=[1.0, 1.0, None, None, None, None])},
    }
    block = read.Bucketed(0, 12_000, 2, [2000 * n for n in range(6)], series)

    assert read.across(block, "power_draw_watts", ["GPU-0", "GPU-1"]).total == [2, 2, 1, 1, 1, 1]
