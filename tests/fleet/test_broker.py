"""The embedded broker: a real server from the wheel, started as the supervisor starts it."""

import importlib.util
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from redis import AuthenticationError, Redis

from fleet.up import broker
from fleet.up.child import Process
from fleet.up.startup import StartRefused
from tests.process.traces import wait_until
from tests.programs import require

PASSWORD = "pass-word_1"


class Place:
    """One data directory's broker; each `start` is one run."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.port_file = directory / "broker", directory / "broker" / "port"
        self.processes: list[Process] = []

    def start(self) -> Process:
        process = Process(broker.embedded_broker(self.directory, self.port_file, PASSWORD))
        self.processes.append(process)
        wait_until(lambda: broker.answers(self.port_file, PASSWORD), 60, "the broker's answer")
        return process

    def kill(self, process: Process) -> None:
        process.signal_group(signal.SIGKILL)
        process.reap()
        self.processes.remove(process)

    def client(self, password: str = PASSWORD) -> Redis:
        return Redis("127.0.0.1", int(self.port_file.read_text()), password=password)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    for process in list(place.processes):
        place.kill(process)


def test_it_serves_on_the_loopback_alone(place):
    server = psutil.Process(place.start().pid)
    addresses = {connection.laddr.ip for connection in server.net_connections() if connection.status == "LISTEN"}
    assert addresses == {"127.0.0.1"}


def test_it_refuses_another_password(place):
    place.start()
    with pytest.raises(AuthenticationError):
        place.client("another").ping()


def test_its_password_is_neither_an_argument_nor_on_disk(place):
    process = place.start()
    assert PASSWORD not in " ".join(psutil.Process(process.pid).cmdline())
    contents = [path.read_bytes() for path in place.directory.rglob("*") if path.is_file()]
    assert contents
    assert not any(PASSWORD.encode() in content for content in contents)


def test_what_was_queued_outlives_kill_9(place):
    process = place.start()
    place.client().rpush("telemetry", "batch")
    place.kill(process)
    place.start()
    assert place.client().lrange("telemetry", 0, -1) == [b"batch"]


def test_an_append_only_file_cut_off_by_a_crash_is_read_as_far_as_it_goes(place):
    process = place.start()
    place.client().rpush("telemetry", "first")
    place.client().rpush("telemetry", "second")
    place.kill(process)
    (journal,) = place.directory.glob("appendonlydir/*.incr.aof")
    os.truncate(journal, journal.stat().st_size - 3)
    place.start()
    assert place.client().lrange("telemetry", 0, -1) == [b"first"]


def test_it_keeps_the_port_of_last_time(place):
    process = place.start()
    port = place.port_file.read_text()
    place.kill(process)
    place.start()
    assert place.port_file.read_text() == port


def test_it_takes_another_port_where_last_times_is_taken(place):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place.directory.mkdir()
        place.port_file.write_text(str(taken.getsockname()[1]))
        place.start()
        assert int(place.port_file.read_text()) != taken.getsockname()[1]


def test_a_damaged_port_file_is_replaced(place):
    place.directory.mkdir()
    place.port_file.write_text("")
    place.start()
    assert int(place.port_file.read_text()) > 0


def test_it_ends_the_server_that_an_earlier_run_left(place):
    leftover = place.start()
    place.processes.remove(leftover)  # whoever ends it reaps it, too: its number is nobody's to signal after that
    place.start()
    assert not psutil.pid_exists(leftover.pid)
    leftover.output.close()


def test_it_leaves_a_stranger_with_the_noted_process_id_alone(place):
    place.directory.mkdir()
    with psutil.Popen(["sleep", "60"], cwd=place.directory) as stranger:
        (place.directory / "pid").write_text(str(stranger.pid))
        place.start()
        assert stranger.poll() is None
        stranger.kill()


def test_without_aserver_program_it_says_what_to_install(place, monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StartRefused, match="install one of them, or set STEPWATT_BROKER_URL"):
        broker.embedded_broker(place.directory, place.port_file, PASSWORD)


def test_a_server_on_the_path_stands_in_for_the_wheel(place, monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    (tmp_path / "redis-server").symlink_to(require("redis-server"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert psutil.Process(place.start().pid).name() == "redis-server"


def test_its_port_is_none_that_the_kernel_lends_to_clients(place, monkeypatch, tmp_path):
    lent = tmp_path / "lent"
    monkeypatch.setattr(broker, "_LENT_PORTS", lent)
    lent.write_text("20500\t60999\n")
    broker.embedded_broker(place.directory, place.port_file, PASSWORD)
    assert 20_000 <= int(place.port_file.read_text()) < 20_500


@pytest.mark.parametrize("told", ["1024 65535", "", None], ids=["all of them", "nothing", "no file"])
def test_where_no_port_is_known_to_be_kept_back_any_free_one_will_do(place, monkeypatch, tmp_path, told):
    lent = tmp_path / "lent"
    if told is not None:
        lent.write_text(told)
    monkeypatch.setattr(broker, "_LENT_PORTS", lent)

    assert place.start()
