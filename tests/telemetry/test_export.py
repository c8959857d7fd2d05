"""Export of series as files that come piece by piece: what is read back is what was stored."""

import csv
import io
from datetime import UTC, datetime

import pytest
from asgiref.sync import async_to_sync
from django.core.management import call_command
from django.test import AsyncClient
from pyarrow import parquet

from fleet.access.auth import create_token
from fleet.models import Device, Host, Role
from telemetry import rollups
from telemetry.message.wire import DeviceInfo, DeviceKind
from telemetry.series import export
from telemetry.store import compact, samples
from tests.people import script
from tests.telemetry.batches import GPU, NODE, payload, take

HOUR = 3_600_000
T0 = int(datetime.now(UTC).timestamp()) // 3600 * HOUR - 3 * HOUR
IDENTITY = ["host", "kind", "index", "uuid"]
METRICS = ["power_draw_watts", "energy_joules_total", "memory_used_bytes", "clock_event_reasons"]

pytestmark = pytest.mark.django_db(transaction=True)


def now():
    return datetime.now(UTC)


@pytest.fixture
def fetch():
    client = script()

    def get(path, **parameters):
        asked = {"metric": METRICS, "start": T0 - HOUR, "end": T0 + 3 * HOUR} | parameters
        return client.get(f"/api/v1/{path}/export", asked)

    return get


def content(response):
    assert response.status_code == 200
    return b"".join(response.streaming_content)


def lines(response):
    return list(csv.DictReader(io.StringIO(content(response).decode())))


@pytest.fixture
def stored():
    """A GPU's readings over an hour's end, the first hour compacted; power has gaps, the counter a reset."""
    for sequence in range(4):
        times = [T0 + HOUR - 10_000 + 5_000 * sequence + 1_000 * n for n in range(5)]
        columns = {
            "power_draw_watts": [123.457, None, 0.001, 699.999, 300.0],
            "energy_joules_total": [1e6 + at % 10_007 for at in times],
            "memory_used_bytes": [80 * 2**30 - n for n in range(5)],
            "clock_event_reasons": [0, 4, 4, 64, 0],
        }
        take(payload(times, columns, sequence=sequence), now())
    compact.compact(now(), 60)
    take(payload([T0 + HOUR + 10_000], {"power_draw_watts": [5.5]}, sequence=9), now())
    return Device.objects.get()


def everything(uuid):
    device = Device.objects.get(uuid=uuid)
    found = samples.raw([device], METRICS, 0, 2**60)
    return {metric: (each.times_ms.tolist(), each.values.tolist()) for (_, metric), each in sorted(found.items())}


def test_csv_is_read_back_by_the_import_as_what_it_was(fetch, stored, tmp_path):
    before = everything(GPU.uuid)
    file = tmp_path / "out.csv"
    file.write_bytes(content(fetch(f"devices/{GPU.uuid}")))
    Host.objects.all().delete()

    call_command("import_telemetry", str(file), stdout=io.StringIO())

    assert everything(GPU.uuid) == before
    assert Device.objects.get().host.name == "gpu-a01"


def test_what_is_read_back_is_of_the_kind_that_it_was(fetch, tmp_path):
    cpu = DeviceInfo("CPU-1", DeviceKind.CPU, 1, "EPYC")
    take(payload([T0, T0 + 1_000], {"power_draw_watts": [100, 200]}, device=GPU, others=[cpu, NODE]), now())
    before = set(Device.objects.exclude(kind="node").values_list("uuid", "kind", "index"))
    file = tmp_path / "out.csv"
    file.write_bytes(content(fetch("hosts/gpu-a01")))
    Host.objects.all().delete()

    call_command("import_telemetry", str(file), stdout=io.StringIO())

    assert set(Device.objects.exclude(kind="node").values_list("uuid", "kind", "index")) == before
    assert Device.objects.filter(kind="node").count() == 1


def test_parquet_holds_the_same_rows_as_csv(fetch, stored):
    table = parquet.read_table(io.BytesIO(content(fetch(f"devices/{GPU.uuid}", format="parquet")))).to_pylist()
    rows = lines(fetch(f"devices/{GPU.uuid}"))

    assert len(table) == len(rows) == 21
    for one, other in zip(table, rows, strict=True):
        assert int(one["time_ms"].timestamp() * 1000) == int(other["time_ms"])
        assert [one[name] for name in IDENTITY] == [other[name] for name in IDENTITY]
        for metric in METRICS:
            assert one[metric] == (float(other[metric]) if other[metric] else None)


def test_parquet_of_several_devices_has_few_row_groups(fetch):
    times = [T0 + 1_000 * n for n in range(50)]
    take(payload(times, {"power_draw_watts": [5] * 50}, device=GPU, others=[NODE]), now())
    file = parquet.ParquetFile(io.BytesIO(content(fetch("hosts/gpu-a01", metric="power_draw_watts", format="parquet"))))
    assert (file.num_row_groups, file.metadata.num_rows) == (1, 100)
    assert set(file.read().column("uuid").to_pylist()) == {GPU.uuid, ""}


def test_missing_is_empty_and_never_zero(fetch, stored):
    rows = lines(fetch(f"devices/{GPU.uuid}"))
    assert [row["power_draw_watts"] for row in rows[:3]] == ["123.457", "", "0.001"]


def test_only_what_is_asked_for_is_exported(fetch, stored):
    rows = lines(fetch(f"devices/{GPU.uuid}", metric="power_draw_watts", start=T0 + HOUR, end=T0 + HOUR + 3_000))
    assert [int(row["time_ms"]) for row in rows] == [T0 + HOUR, T0 + HOUR + 2_000]
    assert list(rows[0]) == ["time_ms", "host", "kind", "index", "uuid", "power_draw_watts"]


def test_a_host_is_exported_with_all_its_devices(fetch):
    take(payload([T0, T0 + 1_000], {"power_draw_watts": [100, 200]}, device=GPU, others=[NODE]), now())
    rows = lines(fetch("hosts/gpu-a01", metric="power_draw_watts"))
    assert {(row["index"], row["uuid"]) for row in rows} == {("0", GPU.uuid), ("", "")}
    assert len(rows) == 4


def test_rollups_are_exported_with_their_statistics(fetch):
    times = [T0 + 1_000 * n for n in range(120)]
    columns = {
        "power_draw_watts": [100.0 + n % 60 for n in range(120)],
        "energy_joules_total": [10.0 * n for n in range(120)],
    }
    take(payload(times, columns), now())
    rollups.roll_up(30)

    first, second = lines(fetch(f"devices/{GPU.uuid}", metric=list(columns), resolution="1m"))

    assert int(first["time_ms"]) == T0
    assert float(first["power_draw_watts"]) == pytest.approx(129.5)
    assert (first["power_draw_watts_min"], first["power_draw_watts_max"]) == ("100.0", "159.0")
    assert (first["power_draw_watts_count"], second["power_draw_watts_count"]) == ("60", "60")
    assert (float(first["energy_joules_total_increase"]), float(second["energy_joules_total_increase"])) == (590, 600)


def test_memory_holds_a_piece_at_a_time(fetch, stored):
    pieces = export.pieces([stored], [], T0, T0 + 3 * HOUR, export.Resolution.RAW)
    assert list(pieces) == []
    found = fetch(f"devices/{GPU.uuid}").streaming_content
    parts = list(found)
    assert len(parts) == 3  # the header, and two hours
    assert parts[1].count(b"\n") == 10


def test_under_asgi_the_parts_come_one_after_another(stored):
    headers = {"Authorization": f"Bearer {create_token('export', Role.VIEWER)}"}

    async def read():
        path = f"/api/v1/devices/{GPU.uuid}/export"
        response = await AsyncClient().get(path, {"metric": METRICS, "start": T0}, headers=headers)
        assert response.is_async
        return [part async for part in response.streaming_content]

    assert len(async_to_sync(read)()) == 3


@pytest.mark.parametrize(
    ("path", "parameters", "status", "code", "field"),
    [
        ("devices/none", {}, 404, "not_found", "uuid"),
        ("hosts/none", {}, 404, "not_found", "name"),
        (f"devices/{GPU.uuid}", {"metric": "warp_factor"}, 400, "unknown_metric", "metric"),
        (f"devices/{GPU.uuid}", {"start": T0, "end": T0}, 400, "invalid", "start"),
        (f"devices/{GPU.uuid}", {"start": "noon"}, 400, "invalid", "start"),
        (f"devices/{GPU.uuid}", {"format": "xls"}, 400, "invalid", "format"),
        (f"devices/{GPU.uuid}", {"resolution": "2m"}, 400, "invalid", "resolution"),
        (f"devices/{GPU.uuid}", {"points": 5}, 400, "unknown_parameter", "points"),
    ],
)
def test_a_question_that_cannot_be_answered_is_an_error(fetch, stored, path, parameters, status, code, field):
    response = fetch(path, **parameters)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["field"]) == (status, code, field)


def test_without_login_nothing_is_exported(client, stored):
    response = client.get(f"/api/v1/devices/{GPU.uuid}/export", {"metric": METRICS, "start": T0})
    assert response.status_code == 401
