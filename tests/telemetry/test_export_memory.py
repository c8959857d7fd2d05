"""An export holds a piece of its time in memory, however long that is: nothing is read before what came before is sent."""

from datetime import UTC, datetime

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient

from fleet.access.auth import create_token
from fleet.models import Device, Role
from telemetry import rollups
from telemetry.catalog import BY_NAME
from telemetry.series import export, export_formats
from telemetry.series.export import Resolution
from telemetry.series.export_formats import Format, stream
from telemetry.store import compact, rolled, samples
from tests.telemetry.batches import GPU, payload, take

HOUR, HOURS, TICKS = 3_600_000, 6, 20
T0 = int(datetime.now(UTC).timestamp()) // 3600 * HOUR - (HOURS + 1) * HOUR
METRIC = "power_draw_watts"

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def device(monkeypatch):
    """A GPU with some samples in each of HOURS hours, all compacted; a Parquet file's row group holds those of one."""
    monkeypatch.setattr(export_formats, "_GROUP_ROWS", TICKS)
    for hour in range(HOURS):
        times = [T0 + HOUR * hour + 1_000 * n for n in range(TICKS)]
        take(payload(times, {METRIC: [100.0 + n for n in range(TICKS)]}, sequence=hour), datetime.now(UTC))
    compact.compact(datetime.now(UTC), 60)
    return Device.objects.get()


def counted(monkeypatch, module, name):
    """Have calls of the function counted; returns a list with an entry for each."""
    calls, function = [], getattr(module, name)

    def counting(*arguments, **options):
        calls.append(name)
        return function(*arguments, **options)

    monkeypatch.setattr(module, name, counting)
    return calls


def read_when_sent(reads, form, device, resolution=Resolution.RAW):
    """Return how often was read when each part of the file came."""
    metrics = [BY_NAME[METRIC]]
    pieces = export.pieces([device], metrics, T0, T0 + HOURS * HOUR, resolution)
    return [len(reads) for _ in stream(form, pieces, export.column_names(metrics, resolution))]


def test_an_hour_of_samples_is_sent_before_the_next_is_read(device, monkeypatch):
    reads = counted(monkeypatch, samples, "within")

    assert read_when_sent(reads, Format.CSV, device) == [0, 1, 2, 3, 4, 5, 6]


def test_a_row_group_of_parquet_is_sent_before_the_next_is_read(device, monkeypatch):
    reads = counted(monkeypatch, samples, "within")

    assert read_when_sent(reads, Format.PARQUET, device) == [1, 2, 3, 4, 5, 6, 6]


def test_a_part_of_the_rollups_is_sent_before_the_next_is_read(device, monkeypatch):
    monkeypatch.setattr(export, "_ROWS", 60)
    rollups.roll_up(60)
    reads = counted(monkeypatch, rolled, "of_hosts")

    sent = read_when_sent(reads, Format.CSV, device, Resolution.MINUTE)

    assert (sent[:2], sent[-1]) == ([0, 1], HOURS)
    assert sent == sorted(set(sent))


def test_the_server_sends_a_part_before_it_makes_the_next(device, monkeypatch):
    reads = counted(monkeypatch, samples, "within")
    asked = {"metric": METRIC, "start": T0, "end": T0 + HOURS * HOUR}
    headers = {"Authorization": f"Bearer {create_token('export', Role.VIEWER)}"}

    async def read():
        response = await AsyncClient().get(f"/api/v1/devices/{GPU.uuid}/export", asked, headers=headers)
        return [len(reads) async for _ in response.streaming_content]

    assert async_to_sync(read)() == [0, 1, 2, 3, 4, 5, 6]
