"""What `manage.py up` cannot start with: one line that says what to do, status 1, nothing left running."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from django.conf import settings

from fleet.up.startup import take_lock
from tests.ports import free_port
from tests.process.traces import processes_of


@pytest.fixture
def refusal(tmp_path: Path) -> Callable[..., str]:
    """Return a function that starts `manage.py up` with the given settings and returns its one line."""

    def start(**values: str) -> str:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("STEPWATT_")},
            "STEPWATT_DATA_DIR": str(tmp_path / "data"),
            "STEPWATT_BIND": f"127.0.0.1:{free_port()}",
            **values,
        }
        ended = subprocess.run(
            [sys.executable, "manage.py", "up"],
            cwd=settings.BASE_DIR,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (ended.returncode, ended.stderr.count("\n")) == (1, 1), ended.stderr
        assert processes_of(tmp_path) == []
        return ended.stderr

    return start


def test_a_port_in_use(refusal):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        line = refusal(STEPWATT_BIND=bind)
    assert f"cannot listen on {bind} (Address already in use)" in line
    assert "set STEPWATT_BIND to another address:port" in line


@pytest.mark.parametrize("place", ["/proc/stepwatt", "/dev/null/data"])
def test_a_data_directory_that_cannot_be_made(refusal, place):
    assert "set STEPWATT_DATA_DIR to another" in refusal(STEPWATT_DATA_DIR=place)


def test_a_database_file_that_is_none(refusal, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "stepwatt.sqlite3").write_bytes(b"not a database at all\n" * 500)
    line = refusal()
    assert "stepwatt.sqlite3 cannot be used (file is not a database)" in line
    assert "restore it from a backup, or move it away" in line


def test_a_damaged_secrets_file(refusal, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "secrets.json").write_text("{")
    assert "secrets.json is damaged; restore it from a backup" in refusal()


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_configured_broker_that_is_not_there(refusal, scheme):
    line = refusal(STEPWATT_BROKER_URL=f"{scheme}://user:geheim@127.0.0.1:1//")
    assert "127.0.0.1:1" in line
    assert "check STEPWATT_BROKER_URL and that it runs" in line
    assert "geheim" not in line


def test_a_configured_database_that_is_not_there(refusal):
    line = refusal(STEPWATT_DATABASE_URL="postgres://user:geheim@127.0.0.1:1/stepwatt")
    assert "the database of STEPWATT_DATABASE_URL cannot be used" in line
    assert "Connection refused" in line
    assert "geheim" not in line


def test_two_ingest_workers_on_one_file(refusal):
    assert "STEPWATT_INGEST_WORKERS=2 needs PostgreSQL" in refusal(STEPWATT_INGEST_WORKERS="2")


def test_a_setting_that_cannot_be_read(refusal):
    assert "STEPWATT_RETENTION_RAW='soon': expected a duration" in refusal(STEPWATT_RETENTION_RAW="soon")


def test_a_second_start_on_the_same_data_directory(refusal, tmp_path):
    (tmp_path / "data").mkdir()
    with take_lock(tmp_path / "data"):
        line = refusal()
    assert f"already runs on {tmp_path / 'data'} (process {os.getpid()}); stop it first" in line
