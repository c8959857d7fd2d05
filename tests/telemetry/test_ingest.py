"""From a message to stored samples."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from django.db import IntegrityError, OperationalError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from fleet.models import Device, Event, Host
from telemetry import retention, rollups, tasks
from telemetry.catalog import AbsentReason
from telemetry.ingest import ingest
from telemetry.models import DirtyMinute, MinuteRollup, StoredBatch
from telemetry.rollups import roll_up
from telemetry.store import latest, samples
from telemetry.wire import MessageInvalid
from tests.telemetry.batches import GPU, NODE, enrolled, payload, take

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
T0 = int(NOW.timestamp() * 1000) - 600_000

pytestmark = pytest.mark.django_db


def test_a_first_batch_makes_device_and_latest_state():
    assert take(payload([T0, T0 + 1000], {"power_draw_watts": [300, 310]}), NOW)

    host = Host.objects.get(name="gpu-a01")
    assert host.last_seen_at == datetime.fromtimestamp((T0 + 1000) / 1000, UTC)
    assert host.software == {"driver": "580.105.08"}
    assert Device.objects.get(host=host).model == "NVIDIA H100 80GB HBM3"
    assert latest.of_hosts([host])[host.pk].devices[GPU.uuid].values == {"power_draw_watts": 310}


def test_a_redelivered_batch_changes_nothing():
    message = payload([T0], {"power_draw_watts": [300]})
    take(message, NOW)
    roll_up(5)

    assert not take(message, NOW)
    assert StoredBatch.objects.count() == 1
    assert not DirtyMinute.objects.exists()


def test_an_older_batch_is_stored_but_leaves_the_latest_state():
    take(payload([T0 + 5000], {"power_draw_watts": [310]}, sequence=1), NOW)
    take(payload([T0], {"power_draw_watts": [300]}, sequence=0), NOW)

    host = Host.objects.get()
    assert latest.of_hosts([host])[host.pk].devices[GPU.uuid].values == {"power_draw_watts": 310}
    assert StoredBatch.objects.count() == 2


def test_a_reading_that_went_absent_leaves_the_latest_state_with_its_reason():
    take(payload([T0], {"power_draw_watts": [300]}), NOW)
    take(payload([T0 + 1000], {}, sequence=1, absent={"power_draw_watts": AbsentReason.GPU_IS_LOST}), NOW)

    newest = latest.of_hosts(list(Host.objects.all()))[Host.objects.get().pk].devices[GPU.uuid]
    assert newest.values == {}
    assert newest.absent == {"power_draw_watts": "gpu_is_lost"}


def test_samples_from_the_future_are_refused_with_the_amount():
    with pytest.raises(MessageInvalid, match="120 s ahead"):
        take(payload([int(NOW.timestamp() * 1000) + 120_000], {"power_draw_watts": [1]}), NOW)
    assert not StoredBatch.objects.exists()


def test_a_clock_that_is_ahead_is_an_event_with_the_amount():
    for second in (0, 5):
        with pytest.raises(MessageInvalid):
            take(payload([T0 + 720_000 + 1000 * second], {"power_draw_watts": [1]}), NOW + timedelta(seconds=second))

    event = Event.objects.get()
    assert (event.kind, event.severity, event.host.name, event.count) == ("clock_wrong", "warning", "gpu-a01", 2)
    assert event.text == "gpu-a01's clock is 120 s ahead of the server's: what it sends is refused"


def test_a_batch_that_comes_again_after_its_chunk_was_deleted_has_no_effect():
    bodies = [payload([T0 + 1000 * n], {"power_draw_watts": [100 + n]}, sequence=n) for n in range(3)]
    for body in bodies:
        take(body, NOW)
    roll_up(30)
    before, later = list(MinuteRollup.objects.values()), NOW + timedelta(days=9)
    retention.retire(later, 30)

    assert not take(bodies[0], later)
    roll_up(30)
    assert (list(MinuteRollup.objects.values()), StoredBatch.objects.count()) == (before, 0)
    assert Host.objects.get().heard_at == NOW


def test_a_batch_that_is_too_old_to_be_known_is_an_event_that_names_it():
    take(payload([T0], {"power_draw_watts": [300]}, sequence=7), NOW + timedelta(days=9))

    event = Event.objects.get()
    assert (event.kind, event.detail["sequence"]) == ("replayed_message", 7)
    assert event.text.startswith("a batch of 9.0 days ago was refused")


def test_a_minute_that_cannot_be_made_keeps_no_other_waiting(caplog):
    take(payload([T0], {"power_draw_watts": [300]}), NOW)
    StoredBatch.objects.update(body=b"unreadable")
    take(payload([T0 + 60_000], {"power_draw_watts": [300]}, host="gpu-a02", device=NODE), NOW)

    assert rollups.roll_up(30) == 1
    assert MinuteRollup.objects.get().device.host.name == "gpu-a02"
    assert not DirtyMinute.objects.exists()
    assert f"minute {T0 // 60_000 * 60_000} of host" in caplog.text


def test_a_batch_without_an_envelope_is_told_of_as_an_older_agents():
    body = (Path(__file__).parents[1] / "data" / "batch_v1.hex").read_text()
    for _ in range(2):
        tasks.ingest_batch(bytes.fromhex(body))

    event = Event.objects.get()
    assert (event.kind, event.host, event.count, event.detail["host"]) == ("foreign_message", None, 2, "gpu-a01")
    assert event.text == "an agent of an older version sends as gpu-a01: it must be updated, and join"


@pytest.mark.parametrize("fault", [IntegrityError, OperationalError])
def test_a_batch_that_the_database_refuses_for_now_is_tried_again(monkeypatch, fault):
    answers = iter([fault("two at once"), True])

    def store(*_):
        answer = next(answers)
        if answer is not True:
            raise answer
        return True

    monkeypatch.setattr(tasks.authentic, "admit", lambda *_: (None, b""))
    monkeypatch.setattr(tasks.ingest, "ingest", store)
    tasks.ingest_batch.apply((b"",))

    assert next(answers, None) is None


@pytest.mark.parametrize(
    "junk", [b"", b"junk", b"\x80", b"\xdf\xff\xff\xff\xff", b"\x81\xa4host\xa1a", b"\x81\x90\x01"]
)
def test_junk_is_no_older_agents(junk):
    tasks.ingest_batch(junk)

    assert not Event.objects.exists()


def test_a_batch_that_names_another_host_is_refused():
    with pytest.raises(MessageInvalid, match="gpu-a02 sent a message that names gpu-a01"):
        ingest(enrolled("gpu-a02"), payload([T0], {"power_draw_watts": [1]}), NOW)
    assert not StoredBatch.objects.exists()


def test_a_device_that_moved_to_another_host_belongs_there():
    take(payload([T0], {"power_draw_watts": [300]}), NOW)
    take(payload([T0], {"power_draw_watts": [300]}, host="gpu-a02"), NOW + timedelta(minutes=16))

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
    assert latest.of_hosts([host])[host.pk].devices[GPU.uuid].values == {"power_draw_watts": 310}
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
        joules = [100.0 * n for n in range(len(ticks))]
        cuts = sorted(data.draw(st.sets(st.integers(1, len(ticks) - 1), max_size=5)) | {0, len(ticks)})
        parts = [
            payload(ticks[a:b], {"power_draw_watts": watts[a:b], "energy_joules_total": joules[a:b]}, sequence=n)
            for n, (a, b) in enumerate(pairwise(cuts))
        ]
        for part in data.draw(st.permutations(parts + parts[:2])):
            take(part, NOW)
            if data.draw(st.booleans()):
                roll_up(30)
        roll_up(30)

        found = samples.of_device(Device.objects.get(), "power_draw_watts", T0, T0 + 90_000)
        assert (found.times_ms.tolist(), found.values.tolist()) == (ticks, watts)
        columns = ("minute_ms", "minimum", "mean", "maximum", "last", "count", "increase")
        rows = MinuteRollup.objects.order_by("metric", "minute_ms").values_list(*columns)
        assert list(rows) == [
            (T0, 0, 2950, 5900, 5900, 60, 5900),
            (T0 + 60_000, 6000, 7450, 8900, 8900, 30, 3000),
            *((T0 + 60_000 * n, *_statistics(part), None) for n, part in enumerate((watts[:60], watts[60:]))),
        ]


def _statistics(values):
    return min(values), pytest.approx(sum(values) / len(values)), max(values), values[-1], len(values)
