"""The package `stepwatt` where no agent is, or a slow one, or another process: nothing of it reaches the loop."""

import ast
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import stepwatt
from stepwatt import agent_socket

from tests.training.listening import frame, listening_at, record

SOURCES = sorted(Path(stepwatt.__file__).parent.glob("*.py"))


@pytest.fixture
def agent(tmp_path, monkeypatch):
    """Return a socket such as an agent's."""
    path = tmp_path / "steps.sock"
    monkeypatch.setenv("STEPWATT_SOCKET", str(path))
    with listening_at(path) as listening:
        yield listening


def test_nothing_happens_where_no_agent_is(tmp_path, monkeypatch):
    monkeypatch.setenv("STEPWATT_SOCKET", str(tmp_path / "none.sock"))
    run = stepwatt.run("r")

    with run.step():
        pass

    assert run.dropped == 1


@pytest.mark.parametrize("fault", ["a directory", "nobody listens", "a file"])
def test_whatever_lies_where_the_socket_should_be_the_loop_goes_on(tmp_path, monkeypatch, fault):
    path = tmp_path / "steps.sock"
    monkeypatch.setenv("STEPWATT_SOCKET", str(path))
    if fault == "a directory":
        path.mkdir()
    elif fault == "a file":
        path.touch()
    else:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as gone:
            gone.bind(str(path))
    run = stepwatt.run("r")

    with run.step():
        pass

    assert run.dropped == 1


@pytest.mark.parametrize("arguments", [{"rank": object()}, {"rank": float("nan")}, {"launch": object()}])
def test_arguments_that_make_no_sense_do_not_raise(agent, arguments):
    with stepwatt.run("a\nname" * 100, **arguments).step():
        pass


def test_an_agent_that_takes_nothing_blocks_nobody(agent):
    run = stepwatt.run("r")
    began = time.monotonic()
    for _ in range(2_000):  # nobody reads: the socket's queue is full after some
        with run.step():
            pass

    assert time.monotonic() - began < 30
    waiting = agent_socket.MOST_WAITING
    assert 0 < run.dropped <= 2_000 - waiting


def test_what_found_no_room_is_told_when_there_is_some_and_what_was_lost_is_counted(agent):
    run = stepwatt.run("r")
    for _ in range(400):
        with run.step():
            pass
    found = []
    agent.setblocking(False)
    for _ in range(400):  # the loop goes on, and the agent reads again
        with run.step():
            pass
        try:
            while True:
                found.append(record(agent).sequence)
        except BlockingIOError:
            pass

    assert found == sorted(set(found))
    assert found[-1] == 799
    assert len(found) == 800 - run.dropped


def test_an_agent_that_is_started_again_gets_what_was_told_meanwhile(agent, tmp_path, monkeypatch):
    monkeypatch.setattr(agent_socket, "MISSED_AGAIN_SECONDS", 0)
    run = stepwatt.run("r")
    with run.step():
        pass
    agent.close()
    (tmp_path / "steps.sock").unlink()
    with run.step():
        pass
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as again:
        again.bind(str(tmp_path / "steps.sock"))
        again.settimeout(60)
        with run.step():
            pass
        assert [record(again).sequence for _ in range(2)] == [1, 2]
    assert run.dropped == 0


def test_an_agent_that_stays_away_is_given_up(agent, tmp_path, monkeypatch):
    monkeypatch.setattr(agent_socket, "MISSED_AGAIN_SECONDS", 0)
    monkeypatch.setattr(agent_socket, "MISSED_SECONDS", 0)
    run = stepwatt.run("r")
    with run.step():
        pass
    agent.close()
    (tmp_path / "steps.sock").unlink()
    for _ in range(3):
        with run.step():
            pass

    assert (run.dropped, len(run._socket._waiting), run._socket.is_missed) == (3, 0, False)


def test_a_forked_child_tells_its_own_steps(agent):
    run = stepwatt.run("r")
    with run.step():
        pass
    child = os.fork()
    if child == 0:
        try:
            with run.step(77):
                pass
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    with run.step():
        pass

    (first, one), (second, other), (third, last) = (frame(agent) for _ in range(3))
    assert [one.number, other.number, last.number] == [1, 77, 2]
    assert [one.sequence, other.sequence, last.sequence] == [0, 0, 1]
    assert first["process"] == third["process"] != second["process"]
    assert (first["pid"], second["pid"]) == (os.getpid(), child)


def test_processes_that_were_spawned_are_told_apart(agent):
    code = "import stepwatt\nwith stepwatt.run('r', launch='l').step(): pass"
    env = os.environ | {"PYTHONPATH": str(Path(stepwatt.__file__).parents[1])}
    for rank in ("0", "1"):
        subprocess.run(
            [sys.executable, "-c", code], env=env | {"RANK": rank, "WORLD_SIZE": "2"}, check=True, timeout=120
        )

    heads = [frame(agent)[0] for _ in range(2)]
    assert [head["rank"] for head in heads] == [0, 1]
    assert len({head["process"] for head in heads}) == 2


def test_a_loop_that_is_killed_has_told_of_every_step_that_ended(agent):
    code = """
import os, signal, stepwatt
run = stepwatt.run("r")
for number in range(5):
    with run.step():
        pass
with run.step():
    os.kill(os.getpid(), signal.SIGKILL)
"""
    env = os.environ | {"PYTHONPATH": str(Path(stepwatt.__file__).parents[1])}
    assert subprocess.run([sys.executable, "-c", code], env=env, check=False, timeout=120).returncode == -signal.SIGKILL

    agent.setblocking(False)
    assert [record(agent).number for _ in range(5)] == [1, 2, 3, 4, 5]
    with pytest.raises(BlockingIOError):
        agent.recv(1)


def test_it_starts_no_thread(agent):
    before = threading.active_count()
    with stepwatt.run("r").step():
        pass

    assert threading.active_count() == before


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_its_source_is_read_by_the_oldest_python_that_it_is_offered_for(source):
    ast.parse(source.read_text(), feature_version=(3, 9))


def test_it_looks_where_the_agent_listens_by_default(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("STEPWATT_DATA_DIR", "/data")

    assert agent_socket.candidates() == [
        "/data/agent/steps.sock", "/home/ada/.local/share/stepwatt/steps.sock", "/run/stepwatt/steps.sock",
    ]  # fmt: skip
