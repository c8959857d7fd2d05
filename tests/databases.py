"""A test's database, SQLite or PostgreSQL: fixtures for tests of what both must do alike.

A test that asks for `each_database` runs on either, one that asks for `on_postgresql` on that alone; both instead of the mark
`django_db`. The connection `default` is another one for as long as the test takes, in its own thread; all that it wrote is
rolled back. `empty_database` is either without a table, and in no transaction: for migrations. `databases` makes such, and copies
of them: what takes long is migrated once. PostgreSQL's server is private, one for the whole run, migrated once. Without
its program such a test is skipped. `file_database` is a migrated file that other processes could write, too.
"""

import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import dj_database_url
import psycopg
import pytest
from django.core.management import call_command
from django.db import connection, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import load_backend

from fleet.environment.databases import configured
from tests.servers import PostgreSQL, postgresql_server


@pytest.fixture(scope="session")
def _server() -> Iterator[PostgreSQL]:
    with postgresql_server() as server:
        yield server


@pytest.fixture
def postgresql_url(_server: PostgreSQL) -> str:
    """Return the URL of a server's one database, which holds nothing but what `on_postgresql` needs."""
    _server.check()
    return _server.url


@pytest.fixture(scope="session")
def _migrated(_server: PostgreSQL, django_db_blocker: object) -> Iterator[BaseDatabaseWrapper]:
    wrapper = connection_to(_server.url)
    with django_db_blocker.unblock(), default_database(wrapper):
        call_command("migrate", verbosity=0, interactive=False)
    yield wrapper
    with django_db_blocker.unblock():
        wrapper.close()


def connection_to(url: str) -> BaseDatabaseWrapper:
    return connection_with(dict(dj_database_url.parse(url)))


def connection_with(config: dict[str, Any], alias: str = "default") -> BaseDatabaseWrapper:
    """Return a connection, not yet opened, with Django's settings of a database."""
    settings = connections.configure_settings({"default": config})["default"]
    return load_backend(settings["ENGINE"]).DatabaseWrapper(settings, alias)


class default_database:  # noqa: N801  read as a phrase after `with`
    """Make a connection the default one of this thread, and put the former back."""

    def __init__(self, wrapper: BaseDatabaseWrapper) -> None:
        self._wrapper = wrapper

    def __enter__(self) -> None:
        self._before, connections["default"] = connections["default"], self._wrapper

    def __exit__(self, *_: object) -> None:
        connections["default"] = self._before


@pytest.fixture
def on_postgresql(postgresql_url: str, _migrated: BaseDatabaseWrapper, django_db_blocker: object) -> Iterator[None]:
    """Have the test's database be PostgreSQL, in a transaction that is rolled back."""
    with django_db_blocker.unblock(), default_database(_migrated), transaction.atomic():
        yield
        transaction.set_rollback(True)


@pytest.fixture(params=[pytest.param("sqlite", marks=pytest.mark.django_db), "postgresql"])
def each_database(request: pytest.FixtureRequest) -> str:
    """Run the test on SQLite and on PostgreSQL; returns which it is."""
    if request.param == "postgresql":
        request.getfixturevalue("on_postgresql")
    return request.param


class Databases:
    """Makes databases of one kind: files in a directory, or PostgreSQL's where `server_url` names a server."""

    def __init__(self, directory: Path, server_url: str) -> None:
        self._directory, self._server_url = directory, server_url

    def make(self, like: str = "") -> str:
        """Return the URL of a new one: empty, or a copy of one that nobody has open."""
        name = f"made_{uuid.uuid4().hex}"
        if not self._server_url:
            file = self._directory / f"{name}.sqlite3"
            if like:
                shutil.copyfile(like.removeprefix("sqlite:///"), file)
            return f"sqlite:///{file}"
        with psycopg.connect(self._server_url, autocommit=True) as session:
            session.execute(f"CREATE DATABASE {name} TEMPLATE {like.rpartition('/')[2] or 'template1'}")
        return f"{self._server_url.rpartition('/')[0]}/{name}"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def databases(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Databases:
    """Run the test on databases of SQLite and of PostgreSQL; returns what makes them."""
    server_url = request.getfixturevalue("_server").url if request.param == "postgresql" else ""
    return Databases(tmp_path_factory.mktemp("databases"), server_url)


@contextmanager
def opened(url: str) -> Iterator[BaseDatabaseWrapper]:
    """Have the database be the default one; it is closed afterwards."""
    wrapper = connection_to(url)
    with default_database(wrapper), closing(wrapper):
        yield wrapper


@pytest.fixture
def empty_database(databases: Databases, django_db_blocker: object) -> Iterator[BaseDatabaseWrapper]:
    """Have the test's database be one that holds nothing, of SQLite and of PostgreSQL; returns its connection."""
    with django_db_blocker.unblock(), opened(databases.make()) as wrapper:
        yield wrapper


@pytest.fixture
def file_database(tmp_path: Path, db: None) -> Iterator[Path]:
    """Have the test's database be a migrated file with the product's settings, in no transaction; returns its path."""
    config = configured("", tmp_path)
    with closing(sqlite3.connect(config["NAME"])) as file:
        file.executescript("\n".join(connection.connection.iterdump()))
    wrapper = connection_with(config)
    with default_database(wrapper):
        yield config["NAME"]
        wrapper.close()
