"""Bulk inserts and marks, on SQLite and on PostgreSQL alike."""

import errno
import sqlite3
import threading

import psycopg
import pytest
from django.db import IntegrityError, OperationalError, transaction

from telemetry import vendor_sql
from telemetry.models import DirtyGroup, DirtyRollup, GroupKind, Rollup, RollupGroup, StoredBatch
from telemetry.vendor_sql import BatchRow, RollupRow
from tests.databases import connection_to, default_database
from tests.factories import make_host

BODY = bytes(range(256)) * 12


@pytest.fixture
def host(each_database):
    return make_host()


def batch(host, sequence: int, start_ms: int = 1_000) -> BatchRow:
    return BatchRow(host.pk, start_ms, "e" * 32, sequence, start_ms + 4_000, BODY)


def test_batches_are_stored_as_they_came(host):
    vendor_sql.insert_batches([batch(host, 7), batch(host, 8, 6_000)])

    columns = ("host_id", "start_ms", "epoch", "sequence", "end_ms", "body")
    found = [(*row[:-1], bytes(row[-1])) for row in StoredBatch.objects.order_by("sequence").values_list(*columns)]
    assert found == [batch(host, 7), batch(host, 8, 6_000)]


def test_a_batch_that_stands_there_is_an_error(host):
    vendor_sql.insert_batches([batch(host, 7)])

    with pytest.raises(IntegrityError), transaction.atomic():
        vendor_sql.insert_batches([batch(host, 6), batch(host, 7)])

    assert StoredBatch.objects.count() == 1


def test_nothing_to_insert_is_no_error(each_database):
    vendor_sql.insert_batches([])
    vendor_sql.insert_rollups([])
    vendor_sql.mark_rollups_dirty([])

    assert StoredBatch.objects.count() == 0


def test_a_rollup_takes_the_place_of_its_own_and_of_no_other(host):
    row = RollupRow(host.pk, 60, 60_000, 1, b"minute")
    vendor_sql.insert_rollups([row, row._replace(step_seconds=900), row._replace(n_buckets=60)])

    vendor_sql.insert_rollups([row._replace(body=b"anew")])

    rows = Rollup.objects.order_by("step_seconds", "n_buckets").values_list("step_seconds", "n_buckets", "body")
    assert [(*key, bytes(body)) for *key, body in rows] == [(60, 1, b"anew"), (60, 60, b"minute"), (900, 1, b"minute")]


def test_a_mark_stands_once(host):
    vendor_sql.mark_rollups_dirty([(host.pk, 60, 120_000), (host.pk, 60, 60_000)])
    vendor_sql.mark_rollups_dirty({(host.pk, 60, 120_000), (host.pk, 900, 0)})

    marks = DirtyRollup.objects.order_by("step_seconds", "start_ms").values_list("step_seconds", "start_ms")
    assert list(marks) == [(60, 60_000), (60, 120_000), (900, 0)]


def test_a_group_s_mark_stands_once(each_database):
    group = RollupGroup.objects.create(kind=GroupKind.FLEET, devices="accelerator")
    for _ in range(2):
        vendor_sql.mark_groups_dirty([(group.pk, 60, 60_000)])

    assert list(DirtyGroup.objects.values_list("group_id", "start_ms")) == [(group.pk, 60_000)]


def test_a_table_s_size_tells_its_rows_and_its_oldest(host):
    vendor_sql.insert_batches([batch(host, 1, 9_000), batch(host, 2, 5_000)])

    size = vendor_sql.table_size("telemetry_storedbatch")

    assert (size.n_rows, size.oldest_ms) == (2, 5_000)
    assert size.n_bytes >= 2 * len(BODY)


def test_an_empty_table_has_no_oldest(each_database):
    assert vendor_sql.table_size("telemetry_rollup").oldest_ms is None


def test_who_takes_a_mark_waits_for_the_batch_of_who_marks(on_postgresql, postgresql_url, django_db_blocker):
    """The mark stands there before; it is marked again with a batch, and taken, at the same moment: the taker sees the batch."""
    marked, seen = threading.Event(), []
    ingest = connection_to(postgresql_url)

    def take() -> None:
        rollups = connection_to(postgresql_url)
        marked.wait(60)
        with django_db_blocker.unblock(), default_database(rollups), transaction.atomic():
            DirtyRollup.objects.all().delete()
            seen.append(StoredBatch.objects.count())
        rollups.close()

    with default_database(ingest):
        host = make_host("of two workers")
        mark = (host.pk, 60, 60_000)
        vendor_sql.mark_rollups_dirty([mark])
        taker = threading.Thread(target=take)
        taker.start()
        with transaction.atomic():
            vendor_sql.insert_batches([batch(host, 1)])
            vendor_sql.mark_rollups_dirty([mark])
            marked.set()
            taker.join(0.5)
            assert not seen
        taker.join(60)
        host.delete()
    ingest.close()

    assert seen == [1]


def raised(error: Exception) -> OperationalError:
    """The error as Django hands it on."""
    outer = OperationalError("the database said no")
    outer.__cause__ = error
    return outer


def sqlite_error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("no")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    "cause", [psycopg.errors.DiskFull(), sqlite_error(sqlite3.SQLITE_FULL), OSError(errno.ENOSPC, "full")]
)
def test_a_full_disk_is_known(cause):
    assert vendor_sql.is_out_of_space(raised(cause))


@pytest.mark.parametrize("cause", [psycopg.errors.LockNotAvailable(), sqlite_error(sqlite3.SQLITE_BUSY), ValueError()])
def test_another_error_is_no_full_disk(cause):
    assert not vendor_sql.is_out_of_space(raised(cause))
