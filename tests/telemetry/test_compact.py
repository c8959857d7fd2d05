"""Compaction: any order, split, repetition and delay of batches, and compaction at any moment, give the same samples."""

from datetime import UTC, datetime, timedelta
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from fleet.inventory import moves
from fleet.models import Device
from telemetry.message import wire
from telemetry.models import Chunk, MaintenanceRun, SetAside, StoredBatch
from telemetry.store import chunks, compact, host_hour, samples
from telemetry.store.stored_batches import StoredBatches
from tests.factories import make_device, make_host
from tests.telemetry.batches import EPOCH, GPU, batch

HOUR = 3_600_000
T0 = 1_799_996_400_000 // HOUR * HOUR
LATER = datetime.fromtimestamp(T0 / 1000, UTC) + timedelta(hours=4)
METRICS = ["power_draw_watts", "energy_joules_total", "temperature_celsius"]


def put(host, times, columns, *, sequence, epoch=EPOCH, **kwargs):
    made = batch(times, columns, host=host.name, sequence=sequence, epoch=epoch, **kwargs)
    StoredBatch.objects.create(
        host=host, epoch=epoch, sequence=sequence, start_ms=times[0], end_ms=times[-1], body=wire.pack(made)
    )


def put_watts(host, times, *, sequence, **kwargs):
    put(host, times, {"power_draw_watts": [at % 997 for at in times]}, sequence=sequence, **kwargs)


def all_samples(device):
    found = samples.raw([device], METRICS, 0, 2**60)
    return {
        metric: (each.times_ms.tolist(), each.values.tolist(), each.clocks.tolist(), each.interval_ms)
        for (_, metric), each in sorted(found.items())
    }


@pytest.fixture
def device(each_database):
    return make_device(make_host("gpu-a01"), uuid=GPU.uuid)


@st.composite
def recordings(draw):
    """Return batches of two lives of an agent, which may lie over each other, over more than an hour, with gaps."""
    made, at = [], T0 + draw(st.integers(-30_000, 30_000))
    for sequence in range(draw(st.integers(1, 8))):
        at += draw(st.sampled_from([0, 1_000, 40_000, 1_300_000]))
        times = []
        for _ in range(draw(st.integers(1, 5))):
            at += draw(st.sampled_from([999, 1_000, 1_001]))
            times.append(at)
        epoch, segment = draw(st.sampled_from([(EPOCH, 0), (EPOCH, 1), ("e" * 32, 0)]))
        columns = {
            metric: [draw(st.none() | st.integers(0, 900)) for _ in times]
            for metric in draw(st.sets(st.sampled_from(METRICS), min_size=1))
        }
        made.append((times, columns, {"sequence": sequence, "epoch": epoch, "segment": segment}))
    return made


class SameSamples(TestCase):
    @given(recordings(), st.data())
    @settings(max_examples=60, deadline=None)
    def test_any_order_and_compaction_at_any_moment_give_the_same_samples_and_chunks(self, recording, data):
        plain, other = (make_device(make_host(name), uuid=f"GPU-{name}") for name in ("plain", "other"))
        for times, columns, named in recording:
            put(plain.host, times, columns, device=_gpu("GPU-plain"), **named)
        expected = all_samples(plain)
        for times, columns, named in data.draw(st.permutations(recording)):
            put(other.host, times, columns, device=_gpu("GPU-other"), **named)
            if data.draw(st.booleans()):
                compact.compact(LATER, 60)
            half = len(times) // 2
            if half and data.draw(st.booleans()):  # the first half once more, as a spool that was cut sends it
                again = {metric: values[:half] for metric, values in columns.items()}
                put(
                    other.host,
                    times[:half],
                    again,
                    device=_gpu("GPU-other"),
                    **(named | {"sequence": 100 + named["sequence"]}),
                )

        assert all_samples(other) == expected
        compact.compact(LATER, 60)
        assert all_samples(other) == expected
        assert all_samples(plain) == expected
        bodies = [list(Chunk.objects.filter(device=d).values_list("start_ms", "body")) for d in (plain, other)]
        assert bodies[0] == bodies[1]
        assert not StoredBatch.objects.exists()


def _gpu(uuid):
    return type(GPU)(uuid, GPU.kind, 0, GPU.model)


def test_an_hour_becomes_one_chunk_and_its_batches_go(device):
    for n in range(12):
        put_watts(device.host, [T0 + 5_000 * n + 1_000 * i for i in range(5)], sequence=n)

    done = compact.compact(LATER, 60)

    row = Chunk.objects.get()
    assert (done.n_batches, done.n_chunks) == (12, 1)
    assert (row.start_ms, row.end_ms, row.n_values, row.host) == (T0, T0 + 59_000, 60, device.host)
    assert not StoredBatch.objects.exists()
    assert MaintenanceRun.objects.get(name=compact.RUN).done == 12


def test_an_hour_that_is_over_less_than_ten_minutes_waits(device):
    put_watts(device.host, [T0], sequence=0)
    over = datetime.fromtimestamp((T0 + HOUR) / 1000, UTC)

    assert compact.compact(over + timedelta(minutes=9), 60).n_batches == 0
    assert compact.compact(over + timedelta(minutes=10), 60).n_batches == 1


def test_a_batch_over_the_end_of_the_hour_is_divided(device):
    put_watts(device.host, [T0 + HOUR - 1_000, T0 + HOUR], sequence=0)
    compact.compact(LATER, 60)

    assert list(Chunk.objects.order_by("start_ms").values_list("start_ms", "n_values")) == [(T0, 1), (T0 + HOUR, 1)]
    assert samples.of_device(device, METRICS[0], 0, 2**60).times_ms.tolist() == [T0 + HOUR - 1_000, T0 + HOUR]


def test_a_late_batch_joins_its_chunk(device):
    put_watts(device.host, [T0, T0 + 2_000], sequence=0)
    compact.compact(LATER, 60)
    put_watts(device.host, [T0 + 1_000], sequence=1)
    compact.compact(LATER, 60)

    assert Chunk.objects.get().n_values == 3
    assert samples.of_device(device, METRICS[0], 0, 2**60).times_ms.tolist() == [T0, T0 + 1_000, T0 + 2_000]


def test_stopped_after_the_chunks_were_written_nothing_is_counted_twice(device, monkeypatch):
    put_watts(device.host, [T0, T0 + 1_000], sequence=0)
    expected = all_samples(device)
    monkeypatch.setattr(host_hour, "_remove", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        compact.compact(LATER, 60)
    monkeypatch.undo()

    assert (Chunk.objects.count(), StoredBatch.objects.count()) == (1, 1)
    assert all_samples(device) == expected
    assert compact.compact(LATER, 60).n_batches == 1
    assert all_samples(device) == expected
    assert not StoredBatch.objects.exists()


def test_what_another_worker_compacted_meanwhile_is_left_as_it_made_it(device, monkeypatch):
    put_watts(device.host, [T0, T0 + 1_000], sequence=0)
    encode = chunks.encode

    def meanwhile(hour):
        monkeypatch.setattr(chunks, "encode", encode)
        compact.compact(LATER, 60)
        return encode(hour)

    monkeypatch.setattr(chunks, "encode", meanwhile)
    done = host_hour.compact(device.host, T0)

    assert (done.n_batches, done.n_chunks) == (0, 0)
    assert Chunk.objects.get().n_values == 2


def test_a_batch_that_comes_while_its_hour_is_compacted_is_not_lost(device, monkeypatch):
    put_watts(device.host, [T0], sequence=0)
    remove = host_hour._remove

    def meanwhile(*given):
        put_watts(device.host, [T0 + 1_000], sequence=1)
        remove(*given)

    monkeypatch.setattr(host_hour, "_remove", meanwhile)
    compact.compact(LATER, 60)

    assert samples.of_device(device, METRICS[0], 0, 2**60).times_ms.tolist() == [T0, T0 + 1_000]


def test_stopped_after_some_batches_went_the_rest_is_neither_lost_nor_counted_twice(device, monkeypatch):
    monkeypatch.setattr(host_hour, "_SLICE_ROWS", 2)
    for n in range(6):
        put_watts(device.host, [T0 + 5_000 * n + 1_000 * i for i in range(5)], sequence=n)
    expected, remove = all_samples(device), host_hour._remove

    def once(*given):
        remove(*given)
        raise KeyboardInterrupt

    monkeypatch.setattr(host_hour, "_remove", once)
    with pytest.raises(KeyboardInterrupt):
        compact.compact(LATER, 60)
    monkeypatch.setattr(host_hour, "_remove", remove)

    assert all_samples(device) == expected
    assert compact.compact(LATER, 60).n_batches == 4
    assert all_samples(device) == expected


def test_a_batch_that_cannot_be_read_is_set_aside_with_its_bytes(device):
    StoredBatch.objects.create(host=device.host, epoch=EPOCH, sequence=0, start_ms=T0, end_ms=T0, body=b"torn")
    put_watts(device.host, [T0 + 1_000], sequence=1)
    compact.compact(LATER, 60)

    kept = SetAside.objects.get()
    assert (bytes(kept.body), kept.reason) == (b"torn", "it cannot be read")
    assert Chunk.objects.get().n_values == 1


def test_a_batch_is_set_aside_beside_another_of_its_number(device):
    named = {"host": device.host, "epoch": EPOCH, "sequence": 0, "start_ms": T0, "end_ms": T0}
    kept = {"n_values": 1, "reason": "its number was used", "received_at": LATER}
    SetAside.objects.create(**named, **kept, body=b"other", digest=SetAside.digest_of(b"other"))
    StoredBatch.objects.create(**named, body=b"torn")
    compact.compact(LATER, 60)

    assert {bytes(row.body) for row in SetAside.objects.all()} == {b"other", b"torn"}
    assert not StoredBatch.objects.exists()


def test_what_a_host_says_of_anothers_device_is_kept_apart(device):
    other = make_host("gpu-b01")
    put_watts(other, [T0], sequence=0)
    compact.compact(LATER, 60)

    assert not Chunk.objects.exists()
    assert (SetAside.objects.get().host, SetAside.objects.get().n_values) == (other, 1)


def test_what_a_device_did_before_it_moved_stays_its_own(device):
    before = make_host("gpu-b01")
    put_watts(before, [T0], sequence=0)
    here = device.host_id
    Device.objects.filter(pk=device.pk).update(host=before)
    device.refresh_from_db()
    moves.move(device, here, T0 + 7_000)
    device.refresh_from_db()
    compact.compact(LATER, 60)

    assert samples.of_device(device, METRICS[0], 0, 2**60).times_ms.tolist() == [T0]


def test_a_late_batch_of_a_corrupt_chunk_waits_and_other_hours_go_on(device, caplog):
    for hour in (0, 1):
        put_watts(device.host, [T0 + hour * HOUR], sequence=hour)
    compact.compact(LATER, 60)
    Chunk.objects.filter(start_ms=T0).update(body=b"damaged, whatever it was")
    for hour in (0, 1):
        put_watts(device.host, [T0 + hour * HOUR + 1_000], sequence=2 + hour)

    done = compact.compact(LATER, 60)

    assert done.corrupt == [f"{GPU.uuid} at {T0}"]
    assert f"device {GPU.uuid} of the hour from 2027-01-15 07:00:00 UTC cannot be read" in caplog.text
    assert StoredBatch.objects.get().sequence == 2
    assert samples.of_device(device, METRICS[0], T0 + HOUR, 2**60).times_ms.size == 2


def test_many_readings_are_compacted_by_some_devices_at_a_time(each_database, monkeypatch):
    monkeypatch.setattr(host_hour, "_MAX_CELLS", 7)
    host = make_host("gpu-a01")
    devices = [make_device(host, n, uuid=f"GPU-{n}") for n in range(3)]
    for n in range(2):
        put_watts(
            host,
            [T0 + 5_000 * n + 1_000 * i for i in range(3)],
            sequence=n,
            device=_gpu("GPU-0"),
            others=[_gpu("GPU-1"), _gpu("GPU-2")],
        )
    compact.compact(LATER, 60)

    assert list(Chunk.objects.order_by("device__uuid").values_list("device__uuid", "n_values")) == [
        (device.uuid, 6) for device in devices
    ]


def test_devices_that_are_read_at_different_times_are_counted_with_the_cells_between(each_database):
    host = make_host("gpu-a01")
    for n in range(2):
        put_watts(host, [T0 + 1_000 * (2 * i + n) for i in range(5)], sequence=n, device=_gpu(f"GPU-{n}"))
    put_watts(host, [T0], sequence=2, device=_gpu("GPU-0"))
    stored = StoredBatches(list(StoredBatch.objects.order_by("sequence")), keep_cells=100)

    assert (stored.n_ticks, stored.numbers.keys()) == (10, {"GPU-0", "GPU-1"})
    assert list(stored.groups(stored.uuids, 19)) == [["GPU-0"], ["GPU-1"]]
    assert list(stored.groups(stored.uuids, 20)) == [["GPU-0", "GPU-1"]]


def test_a_run_ends_when_its_time_is_over(device):
    for hour in range(3):
        put_watts(device.host, [T0 + hour * HOUR], sequence=hour)
    assert compact.compact(LATER, 0).n_batches == 1


def test_readings_are_lossless_to_the_step(device):
    watts = np.round(np.random.default_rng(4).uniform(0, 700, 50), 3).tolist()
    put(device.host, [T0 + 1_000 * n for n in range(50)], {"power_draw_watts": watts}, sequence=0)
    compact.compact(LATER, 60)
    assert samples.of_device(device, METRICS[0], 0, 2**60).values.tolist() == watts
    assert Device.objects.count() == 1
