"""An SQLite file gives its free pages back to the disk."""

import os
import shutil
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connections

from fleet.environment.databases import configured
from telemetry import vendor_sql
from telemetry.maintenance import disk_limit, upkeep
from telemetry.models import MaintenanceRun, StoredBatch
from telemetry.vendor_sql import BatchRow
from tests.databases import connection_with, default_database
from tests.factories import make_host


@pytest.fixture(scope="module")
def filled(tmp_path_factory, django_db_blocker):
    """Return the directory of a database file as a server makes it, with 8 MB of batches."""
    directory = tmp_path_factory.mktemp("filled")
    wrapper = connection_with(configured("", directory))
    with django_db_blocker.unblock(), default_database(wrapper), closing(wrapper):
        call_command("migrate", verbosity=0, interactive=False)
        host = make_host()
        bodies = (BatchRow(host.pk, order, "e" * 32, order, order, os.urandom(4_000)) for order in range(2_000))
        vendor_sql.insert_batches(list(bodies))
    return directory


@pytest.fixture
def file(filled, tmp_path, django_db_blocker):
    """Have the test's database be a copy of that; returns its path."""
    file = Path(shutil.copy(filled / "stepwatt.sqlite3", tmp_path))
    wrapper = connection_with(configured("", tmp_path))
    with django_db_blocker.unblock(), default_database(wrapper), closing(wrapper):
        yield file


def checkpoint() -> None:
    with connections["default"].cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def test_the_file_shrinks_by_what_was_deleted(file):
    checkpoint()
    full_bytes = file.stat().st_size
    StoredBatch.objects.all().delete()

    given_back = vendor_sql.give_back_space(most_pages=100_000)
    checkpoint()

    assert given_back * 4096 > 7_500_000
    assert file.stat().st_size <= full_bytes - given_back * 4096


def test_the_upkeep_gives_back_all_that_is_free(file):
    StoredBatch.objects.all().delete()

    upkeep.keep(datetime.now(UTC), budget_seconds=600)
    checkpoint()

    assert MaintenanceRun.objects.get(name="space given back").done * 4096 > 7_500_000
    assert file.stat().st_size < 2_000_000
    assert vendor_sql.held_bytes() == file.stat().st_size


def test_no_more_is_given_back_at_once_than_asked(file):
    StoredBatch.objects.all().delete()

    assert [vendor_sql.give_back_space(most_pages=500) for _ in range(2)] == [500, 500]


def test_its_size_counts_the_log(file):
    StoredBatch.objects.all().delete()

    log = file.with_name(f"{file.name}-wal").stat().st_size
    assert log > 100_000
    assert vendor_sql.database_bytes() >= file.stat().st_size + log > 8_000_000


def test_space_that_is_free_already_costs_no_samples(file, settings):
    """What retention has deleted lies in the file until it is given back: nothing else may go for it."""
    StoredBatch.objects.filter(start_ms__lt=1900).delete()
    settings.STEPWATT_DISK_LIMIT = 4_000_000

    assert disk_limit.fill().used_bytes > 8_000_000
    assert disk_limit.keep(datetime.now(UTC), time.monotonic() + 60) == ""

    assert StoredBatch.objects.count() == 100
    assert "of it free" in disk_limit.fill().words
