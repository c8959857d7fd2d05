"""One clock of several: who holds the lock sends, the others wait; it goes with its holder."""

import os
import subprocess
import sys

import psycopg
import pytest
from celery import Celery
from celery.beat import PersistentScheduler
from django.conf import settings
from django.db import connection

from fleet.beat import WAIT_SECONDS, DatabaseLock, FileLock, Scheduler


@pytest.fixture
def scheduler(tmp_path, settings, monkeypatch):
    """A scheduler that notes its turns in `turns` instead of sending."""
    settings.STEPWATT_DATA_DIR, turns = tmp_path, []
    monkeypatch.setattr(PersistentScheduler, "tick", lambda self: turns.append(self) or 0.5)
    made = Scheduler(Celery(set_as_current=False), schedule_filename=str(tmp_path / "beat-schedule"), lazy=True)
    made.turns = turns
    return made


def test_of_two_file_locks_one_is_held(tmp_path):
    first, second = FileLock(tmp_path / "beat.lock"), FileLock(tmp_path / "beat.lock")
    assert first.is_held()
    assert not second.is_held()
    assert first.is_held()


def test_a_file_lock_goes_with_its_holder(tmp_path):
    first, second = FileLock(tmp_path / "beat.lock"), FileLock(tmp_path / "beat.lock")
    first.is_held()

    first._file.close()

    assert second.is_held()


def test_of_two_database_locks_one_is_held(on_postgresql):
    first, second = DatabaseLock(), DatabaseLock()
    try:
        assert first.is_held()
        assert not second.is_held()
        assert first.is_held()
    finally:
        first._session.close()
        second._session.close()


def test_a_database_lock_whose_session_ended_is_taken_over(on_postgresql):
    first, second = DatabaseLock(), DatabaseLock()
    first.is_held()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 60000)", [first._session.info.backend_pid])
    try:
        assert second.is_held()
        assert not first.is_held()  # its session is gone, which it finds out here
        assert not first.is_held()  # and asks again with a new one
    finally:
        first._session.close()
        second._session.close()


def test_a_database_that_is_away_is_no_lock(monkeypatch):
    def refused(*_, **__):
        raise psycopg.OperationalError("connection refused")

    monkeypatch.setattr(DatabaseLock, "_connect", refused)

    assert not DatabaseLock().is_held()


def test_a_scheduler_without_the_lock_sends_nothing_and_says_so_once(scheduler, tmp_path, caplog):
    caplog.set_level("INFO", "fleet.beat")
    other = FileLock(tmp_path / "beat.lock")
    other.is_held()

    sleeps = [scheduler.tick() for _ in range(3)]

    assert (sleeps, scheduler.turns) == ([WAIT_SECONDS] * 3, [])
    assert [record.message.partition(";")[0] for record in caplog.records] == ["another server's clock runs"]


def test_a_scheduler_takes_over_when_the_holder_is_gone(scheduler, tmp_path):
    other = FileLock(tmp_path / "beat.lock")
    other.is_held()
    scheduler.tick()

    other._file.close()

    assert scheduler.tick() == 0.5
    assert scheduler.turns == [scheduler]


def test_the_clock_loads_neither_tasks_nor_models():
    program = "import fleet.beat as b, sys; b.app.loader.init_worker(); b.app.finalize(); print(*sys.modules)"
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "fleet.settings"}
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=settings.BASE_DIR,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {"telemetry.tasks", "telemetry.models", "fleet.models", "numpy"} & set(ran.stdout.split())
