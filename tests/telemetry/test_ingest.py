"""From a message to stored samples."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from fleet.models import Device, Host
from telemetry.catalog import AbsentReason
from telemetry.ingest import ingest
from telemetry.models import Chunk, DirtyMinute
from telemetry.rollups import roll_up
from telemetry.store import read
from telemetry.wire import MessageInvalid
from tests.telemetry.batches import GPU, enrolled, payload, take

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
T0 = int(NOW.timestamp() * 1000) - 600_000

pytestmark = pytest.mark.django_db


def test_a_first_batch_makes_device_and_latest_state():
    assert take(payload([T0, T0 + 1000], {"power_draw_watts": [300, 310]}), NOW)

    host = Host.objects.get(name="gpu-a01")
    assert host.last_seen_at == datetime.fromtimestamp((T0 + 1000) / 1000, UTC)
    assert host.software == {"driver": "580.105.08"}
    assert Device.objects.get(host=host).model == "NVIDIA H100 80GB HBM3"
    assert read.latest([host])[host.pk].devices[GPU.uuid].values == {"power_draw_watts": 310}


def test_a_redelivered_batch_changes_nothing():
    message = payload([T0], {"power_draw_watts": [300]})
    take(message, NOW)
    roll_up(5)

    assert not take(message, NOW)
    assert Chunk.objects.count() == 1
    assert not DirtyMinute.objects.exists()


def test_an_older_batch_is_stored_but_leaves_the_latest_state():
    take(payload([T0 + 5000], {"power_draw_watts": [310]}, sequence=1), NOW)
    take(payload([T0], {"power_draw_watts": [300]}, sequence=0), NOW)

    host = Host.objects.get()
    assert read.latest([host])[host.pk].devices[GPU.uuid].values == {"power_draw_watts": 310}
    assert Chunk.objects.count() == 2


def test_a_reading_that_went_absent_leaves_the_latest_state_with_its_reason():
    take(payload([T0], {"power_draw_watts": [300]}), NOW)
    take(payload([T0 + 1000], {}, sequence=1, absent={"power_draw_watts": AbsentReason.GPU_IS_LOST}), NOW)

    latest = read.latest(list(Host.objects.all()))[Host.objects.get().pk].devices[GPU.uuid]
    assert latest.values == {}
    assert latest.absent == {"power_draw_watts": "gpu_is_lost"}


def test_samples_from_the_future_are_refused_with_the_amount():
    with pytest.raises(MessageInvalid, match="120 s ahead"):
        take(payload([int(NOW.timestamp() * 1000) + 120_000], {"power_draw_watts": [1]}), NOW)
    assert not Chunk.objects.exists()


def test_a_batch_that_names_another_host_is_refused():
    with pytest.raises(MessageInvalid, match="gpu-a02 sent a message that names gpu-a01"):
        ingest(enrolled("gpu-a02"), payload([T0], {"power_draw_watts": [1]}), NOW)
    assert not Chunk.objects.exists()


def test_a_device_that_moved_to_another_host_belongs_there():
    take(payload([T0], {"power_draw_watts": [300]}), NOW)
    take(payload([T0], {"power_draw_watts": [300]}, host="gpu-a02"), NOW + timedelta(minutes=1))

    assert Device.objects.get().host.name == "gpu-a02"


def test_a_device_that_two_hosts_claim_at_once_stays_where_it_is():
    take(payload([T0], {"power_draw_watts": [300]}), NOW)
    take(payload([T0], {"power_draw_watts": [300]}, host="gpu-a02"), NOW + timedelta(seconds=1))

    assert Device.objects.get().host.name == "gpu-a01"


def test_a_clock_that_was_ahead_and_is_set_right_shows_the_new_readings():
    ahead, later = T0 + 650_000, NOW + timedelta(seconds=5)
    take(payload([ahead], {"power_draw_watts": [300]}), NOW)
    take(payload([ahead - 50_000 + 5000], {"power_draw_watts": [310]}, sequence=1, segment=1), later)

    host = Host.objects.get()
    assert read.latest([host])[host.pk].devices[GPU.uuid].values == {"power_draw_watts": 310}
    assert host.last_seen_at <= later


def test_a_host_whose_clock_is_behind_is_not_silent():
    take(payload([T0 - 300_000], {"power_draw_watts": [300]}), NOW)

    assert not Host.objects.get().is_silent(NOW + timedelta(seconds=29))
    assert Host.objects.get().is_silent(NOW + timedelta(seconds=31))


def test_one_message_cannot_make_more_than_a_day_dirty():
    with pytest.raises(MessageInvalid, match="at most a day"):
        take(payload([T0 - 90 * 86_400_000, T0], {"power_draw_watts": [1, 1]}), NOW)


class TestAnyOrder(TestCase):
    @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.data())
    def test_any_order_split_and_repetition_gives_the_same_samples_and_rollups(self, data):
        ticks = list(range(T0, T0 + 90_000, 1000))
        watts = [200 + (tick // 1000) % 7 for tick in ticks]
        cuts = sorted(data.draw(st.sets(st.integers(1, len(ticks) - 1), max_size=5)) | {0, len(ticks)})
        parts = [
            payload(ticks[a:b], {"power_draw_watts": watts[a:b]}, sequence=n) for n, (a, b) in enumerate(pairwise(cuts))
        ]
        for part in data.draw(st.permutations(parts + parts[:2])):
            take(part, NOW)
        roll_up(30)

        device = Device.objects.get()
        found = read.samples(device, "power_draw_watts", T0, T0 + 90_000)
        assert found.times_ms.tolist() == ticks
        assert found.values.tolist() == watts
        rolled = read.bucketed([device], ["power_draw_watts"], T0, T0 + 90_000, 2).series[GPU.uuid]["power_draw_watts"]
        assert sum(m for m in rolled.mean if m is not None) > 0
