"""Reading samples: from batches and chunks alike, only what is asked for, and what is damaged left out."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from telemetry import catalog
from telemetry.message import wire
from telemetry.models import Chunk, StoredBatch
from telemetry.store import chunks, compact, packing, samples, selected
from telemetry.store.gather import Gathering
from telemetry.store.stored_batches import read as read_batch
from tests.factories import make_device, make_host
from tests.telemetry.batches import GPU, batch

HOUR = 3_600_000
T0 = 1_799_996_400_000 // HOUR * HOUR
LATER = datetime.fromtimestamp(T0 / 1000, UTC) + timedelta(hours=4)
WATTS, JOULES = "power_draw_watts", "energy_joules_total"

pytestmark = pytest.mark.django_db


def put(host, times, columns, *, sequence=0, body=None, **kwargs):
    made = batch(times, columns, host=host.name, sequence=sequence, **kwargs)
    StoredBatch.objects.create(
        host=host,
        epoch=made.epoch,
        sequence=sequence,
        start_ms=times[0],
        end_ms=times[-1],
        body=body or wire.pack(made),
    )


@pytest.fixture
def device():
    return make_device(make_host("gpu-a01"), uuid=GPU.uuid)


@pytest.fixture(params=["batches", "chunks", "both"])
def stored(request, device):
    """An hour's end and the next one's beginning; `both` has the first half compacted."""
    for sequence in range(20):
        times = [T0 + HOUR - 50_000 + 5_000 * sequence + 1_000 * n for n in range(5)]
        columns = {WATTS: [float(sequence), None, 2.5, 3, 4], JOULES: [float(at % 1_000_003) for at in times]}
        put(device.host, times, columns, sequence=sequence)
        if request.param == "both" and sequence == 9:
            compact.compact(LATER, 60)
    if request.param == "chunks":
        compact.compact(LATER, 60)
    return device


def test_samples_are_the_same_wherever_they_are(stored):
    found = samples.raw([stored], [WATTS, JOULES], T0, T0 + 2 * HOUR)
    times = [T0 + HOUR - 50_000 + 1_000 * n for n in range(100)]
    assert found[GPU.uuid, JOULES].times_ms.tolist() == times
    assert found[GPU.uuid, JOULES].values.tolist() == [float(at % 1_000_003) for at in times]
    assert found[GPU.uuid, WATTS].times_ms.tolist() == [at for n, at in enumerate(times) if n % 5 != 1]


def test_the_end_is_not_part_of_the_range(stored):
    found = samples.of_device(stored, JOULES, T0 + HOUR - 2_000, T0 + HOUR + 1_000)
    assert found.times_ms.tolist() == [T0 + HOUR - 2_000, T0 + HOUR - 1_000, T0 + HOUR]


def test_only_the_metrics_asked_for_are_decoded(stored, monkeypatch):
    compact.compact(LATER, 60)
    unpacked = []
    unpack = packing.unpack
    monkeypatch.setattr(packing, "unpack", lambda packed, n: unpacked.append(n) or unpack(packed, n))
    samples.of_device(stored, JOULES, T0, T0 + 2 * HOUR)
    assert len(unpacked) == 2 * Chunk.objects.count()  # the times, and the metric


def test_a_corrupt_chunk_is_told_with_its_device_and_time_and_the_rest_is_read(device, caplog):
    for hour in (0, 1):
        put(device.host, [T0 + hour * HOUR], {WATTS: [1]}, sequence=hour)
    compact.compact(LATER, 60)
    Chunk.objects.filter(start_ms=T0).update(body=b"\0" * 100)

    found = samples.of_device(device, WATTS, T0, T0 + 2 * HOUR)

    assert found.times_ms.tolist() == [T0 + HOUR]
    at = datetime.fromtimestamp(T0 / 1000, UTC)
    assert f"device {GPU.uuid} of the hour from {at:%F %T} UTC cannot be read" in caplog.text


def test_a_batch_that_cannot_be_read_is_told_and_the_rest_is_read(device, caplog):
    put(device.host, [T0], {WATTS: [1]}, sequence=0, body=b"torn")
    put(device.host, [T0 + 1_000], {WATTS: [2]}, sequence=1)
    assert samples.of_device(device, WATTS, T0, T0 + HOUR).values.tolist() == [2]
    assert "cannot be read" in caplog.text


def test_a_sample_that_stands_twice_is_read_once(device):
    put(device.host, [T0, T0 + 1_000], {WATTS: [1, 2]}, sequence=0)
    put(device.host, [T0 + 1_000, T0 + 2_000], {WATTS: [2, 3]}, sequence=1)
    assert samples.of_device(device, WATTS, T0, T0 + HOUR).values.tolist() == [1, 2, 3]


def test_two_clocks_at_one_time_are_two_samples(device):
    put(device.host, [T0], {WATTS: [1]}, sequence=0)
    put(device.host, [T0], {WATTS: [2]}, sequence=1, segment=1)
    found = samples.of_device(device, WATTS, T0, T0 + HOUR)
    assert sorted(found.values.tolist()) == [1, 2]
    assert found.clocks[0] != found.clocks[1]


def test_the_interval_is_the_longest_among_the_samples_that_are_read(device):
    put(device.host, [T0], {WATTS: [1]}, sequence=0, sample_seconds=10)
    put(device.host, [T0 + HOUR], {WATTS: [1]}, sequence=1, sample_seconds=0.1)
    compact.compact(LATER, 60)
    assert samples.of_device(device, WATTS, T0, T0 + 2 * HOUR).interval_ms == 10_000
    assert samples.of_device(device, WATTS, T0 + 1, T0 + 2 * HOUR).interval_ms == 100


@pytest.mark.parametrize("n_devices", [1, 3, 9])
def test_many_batches_at_once_are_read_as_one_by_one(device, n_devices):
    random = np.random.default_rng(n_devices)
    others = [type(GPU)(f"GPU-{n}", GPU.kind, n, GPU.model) for n in range(1, n_devices)]
    names = [metric.name for metric in catalog.METRICS[:12]]
    for sequence in range(30):
        times = [T0 + 5_000 * sequence + 1_000 * n for n in range(random.integers(1, 6))]
        spread = 2 ** int(random.integers(0, 40))
        columns = {
            name: [None if random.random() < 0.1 else float(random.integers(0, spread)) for _ in times]
            for name in random.permutation(names)[: random.integers(1, 12)]
        }
        put(device.host, times, columns, sequence=sequence, others=others)
    rows = list(StoredBatch.objects.order_by("sequence"))
    wanted = {GPU.uuid, "GPU-2"}, {1, 5, 7, 10}
    one, many = Gathering(*wanted), Gathering(*wanted)
    for row in rows:
        one.add_batch(*read_batch(row))
    selected.add(many, [bytes(row.body) for row in rows])

    assert as_lists(one) == as_lists(many)


def as_lists(gathering):
    found = gathering.gathered()
    order = np.argsort([f"{uuid} {number:3}" for uuid, number in found.series])
    series = [found.series[row] for row in order]
    return found.names, found.times_ms.tolist(), series, found.steps[order].tolist(), found.present[order].tolist()


@pytest.mark.parametrize("body", [b"", b"torn", b"\x81\xa1v\x02", b"\x81\xa1v\x03"])
def test_batches_of_another_form_are_not_read_many_at_once_and_leave_no_trace(body):
    gathering = Gathering()
    good = wire.pack(batch([T0], {WATTS: [1]}))
    with pytest.raises(selected.Unlike):
        selected.add(gathering, [good, body])
    assert gathering.gathered().times_ms.size == 0


def test_a_chunk_says_of_each_stretch_on_which_clock_it_was_read(device):
    put(device.host, [T0, T0 + 1_000], {WATTS: [1, 2]}, sequence=0, segment=0)
    put(device.host, [T0 + 500], {WATTS: [3]}, sequence=1, segment=1)
    compact.compact(LATER, 60)
    hour = chunks.decode(bytes(Chunk.objects.get().body))
    assert [(each.segment, each.n_ticks) for each in hour.stretches] == [(0, 2), (1, 1)]
