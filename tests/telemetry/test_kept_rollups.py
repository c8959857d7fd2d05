"""What samples are gone or can no longer be read: rollups that were made of them stay, whatever comes beside."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from telemetry import rollups
from telemetry.maintenance import retention
from telemetry.models import Chunk, Rollup, StoredBatch, Unreadable
from telemetry.store import compact
from tests.telemetry.batches import GPU, payload, take
from tests.telemetry.test_rollups import MINUTE, NOW, T0, rows, seconds

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _samples_are_kept(settings):
    settings.STEPWATT_RETENTION_RAW = 400 * 86_400


def test_what_was_made_of_samples_that_are_gone_stays(settings):
    take(payload(seconds(60), {"power_draw_watts": [100.0] * 60}), NOW)
    rollups.roll_up(60, NOW)
    StoredBatch.objects.all().delete()
    settings.STEPWATT_RETENTION_RAW = 3600
    take(payload([T0 + 500], {"power_draw_watts": [900.0]}, sequence=2), NOW)
    rollups.roll_up(60, NOW)

    assert rows()[0]["COUNT"] == 60


def test_a_late_batch_of_an_hour_that_is_old_in_part_joins_what_was_there(settings):
    settings.STEPWATT_RETENTION_RAW = 7 * 86_400
    hour = [second for second in range(3600) if not 3000 <= second < 3030]
    take(payload([T0 + 1000 * second for second in hour], {"power_draw_watts": [100.0] * len(hour)}), NOW)
    rollups.roll_up(60, NOW)
    compact.compact(NOW, 60)
    later = datetime.fromtimestamp(T0 / 1000, UTC) + timedelta(days=7, minutes=40)
    retention.retire(later, time.monotonic() + 60)

    take(payload(seconds(30, 3000), {"power_draw_watts": [100.0] * 30}, sequence=1), later)
    rollups.roll_up(60, later)

    assert rows()[50 * MINUTE]["COUNT"] == 60


def test_what_was_made_of_a_chunk_that_is_corrupt_now_stays():
    take(payload(seconds(120), {"power_draw_watts": [100.0] * 120}), NOW)
    rollups.roll_up(60, NOW)
    compact.compact(NOW, 60)
    Chunk.objects.update(body=b"damaged" * 9)

    take(payload(seconds(30, 100), {"gpu_utilization_ratio": [0.5] * 30}, sequence=1), NOW)
    rollups.roll_up(60, NOW)

    assert [rows()[at]["COUNT"] for at in (0, MINUTE)] == [60, 60]
    assert rows(metric="gpu_utilization_ratio")[2 * MINUTE]["COUNT"] == 10


def test_what_comes_late_of_a_corrupt_chunks_neighbour_is_counted():
    other = replace(GPU, uuid="GPU-2", index=1)
    take(payload(seconds(120), {"power_draw_watts": [100.0] * 120}, others=[other]), NOW)
    rollups.roll_up(60, NOW)
    compact.compact(NOW, 60)
    Chunk.objects.filter(device__uuid=GPU.uuid).update(body=b"damaged" * 9)

    take(payload(seconds(30, 30), {"gpu_utilization_ratio": [0.5] * 30}, others=[other], sequence=1), NOW)
    rollups.roll_up(60, NOW)

    assert rows()[0]["COUNT"] == rows(uuid="GPU-2")[0]["COUNT"] == 60
    assert rows(metric="gpu_utilization_ratio", uuid="GPU-2")[0]["COUNT"] == 30
    (lost,) = Unreadable.objects.all()
    assert (lost.uuid, lost.start_ms, lost.end_ms) == (GPU.uuid, T0, T0 + 3_600_000)


@pytest.mark.parametrize("is_compacted", [False, True])
def test_what_was_made_of_a_batch_that_is_corrupt_now_stays(is_compacted):
    for sequence in (0, 1):
        part = seconds(60, 60 * sequence)
        take(payload(part, {"power_draw_watts": [100.0] * 60}, sequence=sequence), NOW)
    rollups.roll_up(60, NOW)
    StoredBatch.objects.filter(sequence=0).update(body=b"damaged" * 9)
    if is_compacted:
        compact.compact(NOW, 60)

    take(payload(seconds(30, 50), {"gpu_utilization_ratio": [0.5] * 30}, sequence=2), NOW)
    rollups.roll_up(60, NOW)

    assert [rows()[at]["COUNT"] for at in (0, MINUTE)] == [60, 60]
    assert rows(metric="gpu_utilization_ratio")[MINUTE]["COUNT"] == 20
    (lost,) = Unreadable.objects.all()
    assert (lost.uuid, lost.start_ms, lost.end_ms) == ("", T0, T0 + 59_001)


def test_what_was_made_of_a_rollup_that_is_corrupt_now_stays():
    take(payload(seconds(3600), {"power_draw_watts": [100.0] * 3600}), NOW)
    rollups.roll_up(60, NOW)
    rollups.join(60, NOW)
    Rollup.objects.filter(step_seconds=60).update(body=b"damaged" * 9)

    take(payload(seconds(30, 1200), {"gpu_utilization_ratio": [0.5] * 30}, sequence=1), NOW)
    rollups.roll_up(60, NOW)

    assert (rows(900)[900_000]["COUNT"], rows(3600)[0]["COUNT"]) == (900, 3600)
    assert rows()[20 * MINUTE]["COUNT"] == 60
