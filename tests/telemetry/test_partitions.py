"""PostgreSQL's partitions: what a row goes into, what a drop takes, and what it leaves to imported hosts."""

import time
from datetime import UTC, datetime

import pytest
from django.db import connection

from fleet.models import Origin
from telemetry import vendor_sql
from telemetry.maintenance import disk_limit
from telemetry.models import Chunk, Rollup, StoredBatch
from telemetry.store import partitions
from telemetry.store.partitions import BATCHES, CHUNKS, DAY_MS, ROLLUPS
from telemetry.vendor_sql import BatchRow, RollupRow
from tests.factories import make_device, make_host

TODAY_MS = 10_000 * DAY_MS  # a long time before the days of the migration's own partitions
OLDEST = dict.fromkeys(partitions.ALL, TODAY_MS - 7 * DAY_MS)


def insert_batch(host, start_ms: int) -> None:
    vendor_sql.insert_batches([BatchRow(host.pk, start_ms, "e" * 32, start_ms, start_ms + 4_000, b"body")])


def insert_chunk(host, start_ms: int) -> None:
    device = host.devices.first() or make_device(host)
    Chunk.objects.create(device=device, host=host, start_ms=start_ms, end_ms=start_ms + 9, n_values=3, body=b"body")


def insert_rollup(host, start_ms: int, step_seconds: int) -> None:
    vendor_sql.insert_rollups([RollupRow(host.pk, step_seconds, start_ms, 1, b"body")])


def tables(model) -> list[str]:
    """The tables that the model's rows stand in, by time."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT tableoid::regclass::text FROM {model._meta.db_table} ORDER BY start_ms")  # noqa: S608
        return [name for (name,) in cursor.fetchall()]


@pytest.fixture
def host(on_postgresql):
    return make_host()


@pytest.fixture
def imported(on_postgresql):
    return make_host("recorded", origin=Origin.IMPORTED)


def test_a_day_has_a_partition_before_it_comes(host):
    partitions.keep(TODAY_MS)

    insert_batch(host, TODAY_MS + DAY_MS - 1)
    insert_batch(host, TODAY_MS + 3 * DAY_MS)

    assert tables(StoredBatch) == ["telemetry_storedbatch_19970519", "telemetry_storedbatch_19970522"]


def test_keeping_them_twice_makes_them_once(on_postgresql):
    assert partitions.keep(TODAY_MS) == 5 * 4
    assert partitions.keep(TODAY_MS) == 0


def test_each_step_of_rollups_has_partitions_of_its_own(host):
    partitions.keep(TODAY_MS)

    for order, step_seconds in enumerate(ROLLUPS):
        insert_rollup(host, TODAY_MS + order, step_seconds)

    # the Thursday before (weeks and the rest begin with the epoch's own day), the 30 and the 360 days that hold it
    assert [name.rpartition("_")[0] for name in tables(Rollup)] == [part.table for part in ROLLUPS.values()]
    assert not any(name.endswith("rest") for name in tables(Rollup))


def test_what_comes_for_a_day_without_a_partition_goes_to_the_rest(host):
    insert_chunk(host, TODAY_MS)
    assert tables(Chunk) == ["telemetry_chunk_rest"]


def test_the_rest_moves_into_partitions_as_far_as_retention_reaches(host):
    for days in (8, 5, 1):
        insert_chunk(host, TODAY_MS - days * DAY_MS)

    partitions.keep(TODAY_MS, OLDEST)

    assert tables(Chunk) == ["telemetry_chunk_rest", "telemetry_chunk_19970514", "telemetry_chunk_19970518"]
    assert Chunk.objects.count() == 3


def test_old_partitions_are_dropped_with_their_rows(host):
    partitions.keep(TODAY_MS)
    for days in (0, 1, 2):
        insert_chunk(host, TODAY_MS + days * DAY_MS)

    dropped = partitions.drop_older(CHUNKS, TODAY_MS + 2 * DAY_MS - 1)

    assert dropped == 1  # the second day is not over before its last millisecond is too old
    assert [start for (start,) in Chunk.objects.values_list("start_ms")] == [
        TODAY_MS + days * DAY_MS for days in (1, 2)
    ]


def test_an_imported_hosts_rows_outlive_their_partition(host, imported):
    partitions.keep(TODAY_MS)
    for each in (host, imported):
        insert_chunk(each, TODAY_MS)

    partitions.drop_older(CHUNKS, TODAY_MS + DAY_MS)

    assert (tables(Chunk), Chunk.objects.get().host) == (["telemetry_chunk_rest"], imported)


def test_a_dropped_day_takes_late_rows_again(host):
    partitions.keep(TODAY_MS)
    partitions.drop_older(BATCHES, TODAY_MS + 2 * DAY_MS)

    insert_batch(host, TODAY_MS)

    assert tables(StoredBatch) == ["telemetry_storedbatch_rest"]


def test_emptied_partitions_are_dropped_and_others_are_not(host):
    partitions.keep(TODAY_MS)
    insert_batch(host, TODAY_MS + DAY_MS)

    assert partitions.drop_emptied(BATCHES, TODAY_MS + 3 * DAY_MS) == 2

    assert tables(StoredBatch) == ["telemetry_storedbatch_19970520"]


def test_a_batch_that_is_stored_while_its_partition_goes_moves_into_the_rest(host, monkeypatch):
    partitions.keep(TODAY_MS)
    insert_batch(host, TODAY_MS)
    monkeypatch.setattr(partitions, "_has_rows", lambda _: False)  # it was looked at a moment before

    partitions.drop_emptied(BATCHES, TODAY_MS + DAY_MS)

    assert tables(StoredBatch) == ["telemetry_storedbatch_rest"]


def test_a_partition_stays_while_a_joined_row_of_it_reaches_beyond(host):
    partitions.keep(TODAY_MS)
    insert_rollup(host, TODAY_MS, 3600)
    [days] = [each for each in partitions.partitions(ROLLUPS[3600]) if each.start_ms <= TODAY_MS < each.end_ms]

    assert partitions.drop_older(ROLLUPS[3600], days.end_ms) == 0
    assert partitions.drop_older(ROLLUPS[3600], days.end_ms + 30 * DAY_MS) == 1


def test_beyond_the_disk_limit_weeks_of_minutes_go_though_their_last_rows_may_reach_beyond_them(host, settings):
    settings.STEPWATT_DISK_LIMIT = 1
    this_week_ms = TODAY_MS // (7 * DAY_MS) * 7 * DAY_MS
    for weeks in (3, 2, 1):
        partitions.keep(this_week_ms - weeks * 7 * DAY_MS)
        insert_rollup(host, this_week_ms - weeks * 7 * DAY_MS, 60)

    disk_limit.keep(datetime.fromtimestamp(TODAY_MS / 1000, UTC), time.monotonic() + 600)

    assert [start for (start,) in Rollup.objects.values_list("start_ms")] == [this_week_ms - 7 * DAY_MS]


def test_what_is_too_old_in_the_rest_is_deleted_in_slices_but_for_imported_hosts(each_database):
    host, imported = make_host(), make_host("recorded", origin=Origin.IMPORTED)
    for order in range(3):
        insert_chunk(host, TODAY_MS + order)
    insert_chunk(imported, TODAY_MS)

    deleted = [partitions.delete_older(CHUNKS, TODAY_MS + 11, most_rows=1, most_bytes=1000) for _ in range(3)]

    assert deleted == [1, 1, 0]
    assert list(Chunk.objects.order_by("host").values_list("host_id", "start_ms")) == [
        (host.pk, TODAY_MS + 2),
        (imported.pk, TODAY_MS),
    ]


def test_rollups_of_one_step_are_deleted_without_the_others(each_database):
    host = make_host()
    for step_seconds in ROLLUPS:
        insert_rollup(host, TODAY_MS, step_seconds)

    assert partitions.delete_older(ROLLUPS[60], TODAY_MS + 60_000, most_rows=10, most_bytes=1000) == 1

    assert sorted(Rollup.objects.values_list("step_seconds", flat=True)) == [900, 3600]


@pytest.mark.django_db
def test_on_sqlite_nothing_is_partitioned():
    insert_chunk(make_host(), TODAY_MS)

    assert partitions.keep(TODAY_MS, OLDEST) == 0
    assert partitions.drop_older(CHUNKS, TODAY_MS + DAY_MS) == 0
    assert Chunk.objects.count() == 1


def test_a_removed_host_takes_its_rows_out_of_every_partition(host):
    partitions.keep(TODAY_MS)
    insert_chunk(host, TODAY_MS)
    insert_chunk(host, TODAY_MS - DAY_MS)

    host.delete()

    assert tables(Chunk) == []
