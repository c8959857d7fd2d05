"""The database's settings: what a connection made with them does."""

from contextlib import contextmanager

import psycopg
import pytest
from django.db import OperationalError

from fleet.environment.databases import configured
from fleet.up import startup
from tests.databases import connection_with


@contextmanager
def opened(config):
    """A connection with these settings, by which the test's own database stays untouched."""
    wrapper = connection_with(config, "of-this-test")
    try:
        yield wrapper
    finally:
        wrapper.close()
        if config["OPTIONS"].get("pool"):
            wrapper.close_pool()


def asked(wrapper, question: str) -> object:
    with wrapper.cursor() as cursor:
        cursor.execute(question)
        return cursor.fetchone()[0]


@pytest.mark.parametrize(("pragma", "value"), [("journal_mode", "wal"), ("synchronous", 2), ("cache_size", -8000)])
def test_a_file_is_opened_as_its_settings_say(tmp_path, django_db_blocker, pragma, value):
    with django_db_blocker.unblock(), opened(configured("", tmp_path)) as wrapper:
        assert asked(wrapper, f"PRAGMA {pragma}") == value


def test_a_reader_waits_for_no_writer(tmp_path, django_db_blocker):
    config = configured("", tmp_path)
    config["OPTIONS"]["timeout"] = 0.05
    with django_db_blocker.unblock(), opened(config) as writer, opened(config) as reader:
        with writer.cursor() as cursor:
            cursor.execute("CREATE TABLE something (number integer)")
        writer.set_autocommit(False, force_begin_transaction_with_broken_autocommit=True)

        assert asked(reader, "SELECT count(*) FROM something") == 0


def test_a_writer_takes_its_lock_when_it_begins(tmp_path, django_db_blocker):
    config = configured("", tmp_path)
    config["OPTIONS"]["timeout"] = 0.05
    with django_db_blocker.unblock(), opened(config) as first, opened(config) as second:
        first.set_autocommit(False, force_begin_transaction_with_broken_autocommit=True)

        with pytest.raises(OperationalError, match="database is locked"):
            second.set_autocommit(False, force_begin_transaction_with_broken_autocommit=True)


PID = "SELECT pg_backend_pid()"


def test_a_closed_connection_is_used_again(postgresql_url, tmp_path, django_db_blocker):
    with django_db_blocker.unblock(), opened(configured(postgresql_url, tmp_path)) as wrapper:
        before = asked(wrapper, PID)
        wrapper.close()

        assert asked(wrapper, PID) == before


def test_a_connection_that_broke_meanwhile_is_replaced(postgresql_url, tmp_path, django_db_blocker):
    with django_db_blocker.unblock(), opened(configured(postgresql_url, tmp_path)) as wrapper:
        before = asked(wrapper, PID)
        wrapper.close()
        with psycopg.connect(postgresql_url) as other:
            other.execute("SELECT pg_terminate_backend(%s, 60000)", [before])

        assert asked(wrapper, PID) != before


def test_a_database_that_is_away_is_an_error_within_seconds(tmp_path, django_db_blocker):
    config = configured("postgres://nobody@127.0.0.1:1/nothing", tmp_path)
    config["OPTIONS"]["pool"] = config["OPTIONS"]["pool"] | {"timeout": 0.2}
    with django_db_blocker.unblock(), opened(config) as wrapper, pytest.raises(OperationalError):
        asked(wrapper, "SELECT 1")


def test_a_server_on_postgresql_is_refused_without_the_package_of_the_pool(monkeypatch):
    monkeypatch.setattr(startup.importlib.util, "find_spec", lambda name: None)

    with pytest.raises(startup.StartRefused, match="psycopg_pool is missing"):
        startup.check_database(url_is_set=True)


def test_options_of_the_url_are_kept(tmp_path):
    options = configured("postgres://u@db.example.org/stepwatt?sslmode=verify-full", tmp_path)["OPTIONS"]

    assert options["sslmode"] == "verify-full"
    assert options["pool"]
