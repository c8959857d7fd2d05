"""From messages to stored samples."""

from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import msgpack
import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from fleet.models import Device, Event, Host
from telemetry.catalog import AbsentReason
from telemetry.message.envelope import seal
from telemetry.message.wire import INGEST_TASK, DeviceProcess, MessageInvalid
from telemetry.models import AcceptedSequences, DirtyRollup, LatestState, SetAside, StoredBatch
from telemetry.receiving.ingest import ingest, ingest_group
from telemetry.store import latest
from tests.factories import make_host
from tests.telemetry.batches import GPU, enrolled, payload, take

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
T0 = int(NOW.timestamp() * 1000) - 600_000
KEYS = defaultdict(Ed25519PrivateKey.generate)

pytestmark = pytest.mark.django_db


def group(bodies, now=NOW):
    """Ingest (host, body) as the worker does: signed, all at once."""
    for name in {name for name, _ in bodies}:
        if not Host.objects.filter(name=name).exists():
            make_host(name, seen_at=NOW, public_key=KEYS[name].public_key().public_bytes_raw())
    ingest_group([seal(KEYS[name], INGEST_TASK, name, body) for name, body in bodies], now)


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
    DirtyRollup.objects.all().delete()

    assert not take(message, NOW)
    assert StoredBatch.objects.count() == 1
    assert not DirtyRollup.objects.exists()


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


def test_samples_from_the_future_are_set_aside_and_shown_nowhere():
    ahead_ms = int(NOW.timestamp() * 1000) + 120_000
    assert not take(payload([ahead_ms], {"power_draw_watts": [1]}), NOW)

    kept, host = SetAside.objects.get(), Host.objects.get()
    assert (kept.reason, kept.n_values) == ("the host's clock was 120 s ahead of the server's", 1)
    assert (host.last_seen_at, host.heard_at) == (None, None)
    assert not StoredBatch.objects.exists()
    assert not LatestState.objects.exists()


def test_what_is_set_aside_is_accepted_once():
    body = payload([T0 + 720_000], {"power_draw_watts": [1]}, sequence=3)
    for _ in range(2):
        take(body, NOW)

    assert AcceptedSequences.objects.get().ranges == [[3, 3]]
    assert (SetAside.objects.count(), Event.objects.get().count) == (1, 1)


def test_a_clock_that_is_ahead_is_an_event_with_the_amount():
    for second in (0, 5):
        body = payload([T0 + 720_000 + 1000 * second], {"power_draw_watts": [1]}, sequence=second)
        take(body, NOW + timedelta(seconds=second))

    event = Event.objects.get()
    assert (event.kind, event.severity, event.host.name, event.count) == ("clock_wrong", "warning", "gpu-a01", 2)
    assert event.text == "gpu-a01's clock is 120 s ahead of the server's: what it sends is set aside"


def test_a_batch_older_than_samples_are_kept_is_set_aside():
    take(payload([T0], {"power_draw_watts": [300]}, sequence=7), NOW + timedelta(days=9))

    assert SetAside.objects.get().reason.startswith("its samples were 9.0 days old when it came")
    assert AcceptedSequences.objects.get().ranges == [[7, 7]]
    assert not Event.objects.exists()


def test_a_batch_that_comes_again_after_it_was_compacted_or_deleted_has_no_effect():
    body = payload([T0], {"power_draw_watts": [300]})
    take(body, NOW)
    StoredBatch.objects.all().delete()

    assert not take(body, NOW + timedelta(days=9))
    assert (StoredBatch.objects.count(), SetAside.objects.count(), Event.objects.count()) == (0, 0, 0)
    assert Host.objects.get().heard_at == NOW


def test_another_batch_under_a_number_that_was_used_is_kept_apart_and_is_an_event():
    take(payload([T0], {"power_draw_watts": [300]}), NOW)
    for watts in (400, 400, 300):
        assert not take(payload([T0], {"power_draw_watts": [watts]}), NOW)

    event = Event.objects.get()
    assert (event.kind, event.count, event.detail["sequence"]) == ("cloned_key", 1, 0)
    assert SetAside.objects.get().reason == "its number was used by another batch of this host"
    assert StoredBatch.objects.count() == 1


def test_all_batches_of_one_number_are_kept_once_each():
    for watts in (300, 400, 500, 400, 500):
        take(payload([T0], {"power_draw_watts": [watts]}), NOW)

    assert (StoredBatch.objects.count(), SetAside.objects.count()) == (1, 2)


def test_a_batch_that_was_packed_anew_to_be_sent_again_is_the_same():
    for sent_ms in (T0, T0 + 60_000):
        take(payload([T0], {"power_draw_watts": [300]}, sent_ms=sent_ms), NOW)

    assert not Event.objects.exists()
    assert not SetAside.objects.exists()


def test_what_the_newest_batch_says_of_both_clocks_is_kept():
    take(payload([T0 + 1000], {"power_draw_watts": [1]}, sequence=1, sent_ms=T0 + 1500), NOW)
    take(payload([T0], {"power_draw_watts": [1]}, sequence=0, sent_ms=T0 + 500), NOW + timedelta(seconds=1))

    known = AcceptedSequences.objects.get()
    assert (known.newest_sequence, known.newest_sent_ms) == (1, T0 + 1500)
    assert known.newest_received_ms == NOW.timestamp() * 1000
    assert known.changed_at == NOW + timedelta(seconds=1)


@pytest.mark.parametrize(
    "junk", [b"", b"junk", b"\x80", b"\xdf\xff\xff\xff\xff", b"\x81\xa4host\xa1a", b"\x81\x90\x01"]
)
def test_junk_is_refused(junk):
    ingest_group([junk], NOW)

    assert not Event.objects.exists()


def unfit(**changes):
    """Return a batch of gpu-a01 with other fields in its head, or another body."""
    message = msgpack.unpackb(payload([T0], {"power_draw_watts": [1]}, sequence=4))
    if "body" in changes:
        return msgpack.packb(message | changes)
    head = msgpack.unpackb(zstandard.ZstdDecompressor().decompress(message["head"]), strict_map_key=False) | changes
    return msgpack.packb(message | {"head": zstandard.ZstdCompressor().compress(msgpack.packb(head))})


@pytest.mark.parametrize(
    "changes",
    [{"body": b"junk"}, {"body": None}, {"times": [T0 - 90_000_000, 90_000_000]}, {"times": []}, {"every": -1}, {"devices": 7}],
)  # fmt: skip
def test_a_batch_that_has_a_name_and_does_not_fit_is_set_aside_and_acknowledged(changes):
    group([("gpu-a01", unfit(**changes))] * 2)

    kept = SetAside.objects.get()
    assert (kept.sequence, kept.n_values, kept.reason[:16]) == (4, 0, "it does not fit:")
    assert AcceptedSequences.objects.get().ranges == [[4, 4]]
    assert not StoredBatch.objects.exists()
    assert not Event.objects.exists()


@pytest.mark.parametrize("changes", [{"seq": -1}, {"epoch": b""}, {"host": "gpu-a02"}, {"sent": 2**61}])
def test_a_batch_that_does_not_fit_and_has_no_name_is_refused(changes, caplog):
    group([("gpu-a01", unfit(times=[], **changes))])

    assert "a batch was refused" in caplog.text
    assert not AcceptedSequences.objects.exists()


def test_a_batch_of_a_version_to_come_is_kept_by_its_agent():
    message = msgpack.unpackb(unfit())
    group([("gpu-a01", msgpack.packb(message | {"v": 99}))])

    assert not AcceptedSequences.objects.exists()


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
    group([("gpu-a01", payload([T0 - 90 * 86_400_000, T0], {"power_draw_watts": [1, 1]}))])

    assert "at most a day" in SetAside.objects.get().reason
    assert not DirtyRollup.objects.exists()


def test_a_message_that_is_refused_costs_the_others_nothing():
    good = [
        (
            f"gpu-a0{n}",
            payload([T0], {"power_draw_watts": [n]}, host=f"gpu-a0{n}", device=replace(GPU, uuid=f"GPU-{n}")),
        )
        for n in (1, 2)
    ]
    group([good[0], ("gpu-a03", b"junk"), ("gpu-a04", good[0][1]), good[1]])

    assert set(StoredBatch.objects.values_list("host__name", flat=True)) == {"gpu-a01", "gpu-a02"}


def test_a_group_keeps_who_used_a_device_though_its_newest_batch_does_not_say():
    train = DeviceProcess(4711, "train.py")
    first = payload([T0], {"power_draw_watts": [1]}, processes={GPU.uuid: [train]})
    group([("gpu-a01", first), ("gpu-a01", payload([T0 + 1000], {"power_draw_watts": [2]}, sequence=1))])

    row = LatestState.objects.get()
    assert row.processes[GPU.uuid]["processes"][0]["pid"] == 4711
    assert row.devices[GPU.uuid]["values"] == {"power_draw_watts": 2}


def test_a_group_keeps_when_a_device_that_is_lost_by_its_end_was_last_read():
    lost = payload([T0 + 1000], {}, sequence=1, absent={"power_draw_watts": AbsentReason.GPU_IS_LOST})
    group([("gpu-a01", payload([T0], {"power_draw_watts": [1]})), ("gpu-a01", lost)])

    device = LatestState.objects.get().devices[GPU.uuid]
    assert (device["at_ms"], device["read_ms"], device["values"]) == (T0 + 1000, T0, {})


class TestAnyOrder(TestCase):
    @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.data())
    def test_any_order_split_grouping_and_repetition_gives_the_same_rows(self, data):
        ticks = list(range(T0, T0 + 90_000, 1000))
        watts = [200 + (tick // 1000) % 7 for tick in ticks]
        cuts = sorted(data.draw(st.sets(st.integers(1, len(ticks) - 1), max_size=5)) | {0, len(ticks)})
        parts = [
            payload(ticks[a:b], {"power_draw_watts": watts[a:b]}, sequence=n) for n, (a, b) in enumerate(pairwise(cuts))
        ]
        sent = data.draw(st.permutations([*parts, *parts[:2]]))
        while sent:
            n = data.draw(st.integers(1, len(sent)))
            group([("gpu-a01", body) for body in sent[:n]])
            sent = sent[n:]

        stored = StoredBatch.objects.order_by("sequence").values_list("sequence", "start_ms", "end_ms", "body")
        assert [(*row[:3], bytes(row[3])) for row in stored] == [
            (n, ticks[a], ticks[b - 1], parts[n]) for n, (a, b) in enumerate(pairwise(cuts))
        ]
        assert AcceptedSequences.objects.get().ranges == [[0, len(parts) - 1]]
        assert latest.of_hosts([Host.objects.get()])[Host.objects.get().pk].devices[GPU.uuid].values == {
            "power_draw_watts": watts[-1]
        }
        assert {T0, T0 + 60_000} <= set(DirtyRollup.objects.values_list("start_ms", flat=True))
        assert not Event.objects.exists()
