"""Passes over many runs on a database of one file, while other processes write it, too: no query stays open as they write."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from tests.factories import make_host
from training.models import Run, RunLife
from training.runs import lives, retention
from training.runs.doings import Doings

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture
def many(file_database):
    """Runs that are over, more than SQLite hands out at once; returns the file."""
    host, over = make_host(), NOW - timedelta(days=2)
    Run.objects.bulk_create(
        Run(name=f"r{n}", launch=f"l{n}", host=host, started_at=over, last_step_at=over, ends_at=over)
        for n in range(2500)
    )
    return file_database


def write(file) -> None:
    with closing(sqlite3.connect(file)) as other, other:
        other.execute("UPDATE fleet_host SET cluster = cluster || 'x'")


def test_lives_are_kept_while_others_write(many, monkeypatch):
    monkeypatch.setattr(lives, "_AT_ONCE", 5)
    monkeypatch.setattr(lives, "doings", lambda *_: write(many) or Doings())

    assert lives.measure(NOW, 60) == RunLife.objects.count() == 5


def test_runs_are_retired_while_others_write(many, monkeypatch, settings):
    settings.STEPWATT_RETENTION_RUNS = 86_400
    monkeypatch.setattr(retention, "_AT_ONCE", 5)
    delete_some = retention.delete_some
    monkeypatch.setattr(retention, "delete_some", lambda run: write(many) or delete_some(run))

    assert retention.retire(NOW, 60) == 5
