"""The package `stepwatt` in a training loop: what arrives at the agent, and that nothing of it reaches the loop."""

import ast
import json
import os
import socket
import threading
import time
from pathlib import Path

import pytest
import stepwatt
from stepwatt import agent_socket

from telemetry.agent.steps import StepListener
from tests.process.traces import wait_until
from training.host.steps import StepForwarder
from training.wire import StepTiming, unpack_steps

SOURCES = sorted(Path(stepwatt.__file__).parent.glob("*.py"))


@pytest.fixture
def agent(tmp_path, monkeypatch):
    """Return a socket such as an agent's."""
    path = tmp_path / "steps.sock"
    monkeypatch.setenv("STEPWATT_SOCKET", str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(path))
        listening.settimeout(5)
        yield listening


def frame(agent: socket.socket) -> dict:
    return json.loads(agent.recv(agent_socket.MAX_FRAME_BYTES))


def test_steps_reach_the_server_by_way_of_the_agent(tmp_path, monkeypatch):
    path, sent = tmp_path / "steps.sock", []
    monkeypatch.setenv("STEPWATT_SOCKET", str(path))
    listener = StepListener(path)
    forwarder = StepForwarder("node-1", lambda task, payload, **_: sent.extend(unpack_steps(payload)[1]))
    listener.register(forwarder.forward)
    listener.start()
    run = stepwatt.run(
        "llm-7b", samples_per_step=512, tokens_per_sample=4096, launch="l 1", rank=3, device_uuid="GPU-1"
    )
    with run.step() as step:
        step.log(loss=2.5)
    wait_until(lambda: sent, 10, "the step")
    listener.stop()

    (found,) = sent
    assert found == StepTiming(
        "llm-7b", "l-1", 1, found.ended_ms, found.seconds, 3, "GPU-1", 512, 512 * 4096, 2.5, is_warmup=False
    )
    assert abs(found.ended_ms - time.time() * 1000) < 10_000
    assert (run.dropped, forwarder.invalid) == (0, 0)


def test_a_step_is_timed_from_its_begin_to_its_end(agent):
    with stepwatt.run("r").step():
        time.sleep(0.05)

    assert 0.05 <= frame(agent)["seconds"] < 1


def test_steps_count_from_one_or_from_where_a_checkpoint_left_off(agent):
    run = stepwatt.run("r")
    for number in (None, None, 1000, None):
        with run.step(number):
            pass

    assert [frame(agent)["number"] for _ in range(4)] == [1, 2, 1000, 1001]


def test_what_a_step_logs_comes_before_what_the_run_says(agent):
    with stepwatt.run("r", samples_per_step=8, tokens_per_sample=2).step(is_warmup=True) as step:
        step.log(samples=7)

    found = frame(agent)
    assert (found["samples"], found["tokens"], found["is_warmup"]) == (7, 14, True)


class Tensor:
    """A device's number: to read it would wait for the device."""

    def __float__(self):
        raise AssertionError("the device was synchronised")

    item = __int__ = __index__ = __float__


@pytest.mark.parametrize("loss", [Tensor(), float("nan"), "2.5", None, True, 10**400])
def test_what_is_no_plain_number_is_left_out(agent, loss):
    with stepwatt.run("r").step() as step:
        step.log(loss=loss)

    assert frame(agent)["loss"] is None


def test_phases_are_measured_and_told(agent):
    with stepwatt.run("r").step() as step:
        for _ in range(2):
            with step.phase("forward"):
                time.sleep(0.01)

    assert frame(agent)["phases"]["forward"] >= 0.02


def test_an_error_of_the_loop_passes_through_and_its_step_is_not_told(agent):
    run = stepwatt.run("r")
    with pytest.raises(KeyError), run.step() as step, step.phase("forward"):
        raise KeyError
    with run.step():
        pass

    assert frame(agent)["number"] == 2


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

    assert run.dropped > 0
    assert time.monotonic() - began < 2


def test_an_agent_that_was_started_again_is_found_again(agent, tmp_path, monkeypatch):
    monkeypatch.setattr(agent_socket, "LOOK_AGAIN_SECONDS", 0)
    run = stepwatt.run("r")
    (tmp_path / "steps.sock").unlink()
    with run.step():
        pass
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as again:
        again.bind(str(tmp_path / "steps.sock"))
        again.settimeout(5)
        with run.step():
            pass
        assert frame(again)["number"] == 2


def test_a_forked_child_tells_its_own_steps(agent):
    run = stepwatt.run("r")
    with run.step():
        pass
    child = os.fork()
    if child == 0:
        with run.step(77):
            pass
        os._exit(0 if run._socket._owner == os.getpid() else 1)
    assert os.waitpid(child, 0)[1] == 0

    assert [frame(agent)["number"] for _ in range(2)] == [1, 77]


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
        "/data/agent/steps.sock", "/home/ada/.local/share/stepwatt/steps.sock", "/var/lib/stepwatt/steps.sock",
    ]  # fmt: skip
