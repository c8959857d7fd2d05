"""The package `stepwatt` in a training loop: what arrives at the agent, and that nothing of it reaches the loop."""

import ast
import math
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
from stepwatt import agent_socket, wire

from telemetry.agent.steps import StepListener
from training.host.steps import StepHold
from training.steps import blocks, datagram
from training.steps.columns import StepKind
from training.steps.datagram import UNTOLD_NS, WARM_UP

SOURCES = sorted(Path(stepwatt.__file__).parent.glob("*.py"))


@pytest.fixture
def agent(tmp_path, monkeypatch):
    """Return a socket such as an agent's."""
    path = tmp_path / "steps.sock"
    monkeypatch.setenv("STEPWATT_SOCKET", str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(path))
        listening.settimeout(60)
        yield listening


def frame(agent: socket.socket):
    """Return (header, record) of the next datagram."""
    return datagram.read(agent.recv(datagram.MAX_BYTES))


def record(agent: socket.socket):
    return frame(agent)[1]


def phases(agent: socket.socket) -> dict[str, float]:
    """Return the seconds of the phases that the next datagram tells."""
    head, told = frame(agent)
    return {name: ns / 1e9 for name, ns in zip(head["phases"], told.phases_ns, strict=True) if ns != UNTOLD_NS}


def test_its_form_is_the_one_that_the_agent_reads():
    assert (wire.VERSION, wire.MAX_BYTES, wire.MAX_PHASES, wire.WARM_UP, wire.UNTOLD_NS) == (
        datagram.VERSION, datagram.MAX_BYTES, datagram.MAX_PHASES, WARM_UP, UNTOLD_NS
    )  # fmt: skip
    assert wire.record(3).size == datagram.RECORD.size + 24
    assert list(StepKind) == [wire.TRAIN, wire.VALIDATION, wire.CHECKPOINT, wire.OTHER]


def test_steps_reach_the_server_by_way_of_the_agent(tmp_path, monkeypatch):
    path, hold = tmp_path / "steps.sock", StepHold()
    monkeypatch.setenv("STEPWATT_SOCKET", str(path))
    listener = StepListener(path)
    listener.register(hold.put)
    listener.start()
    run = stepwatt.run("llm", samples_per_step=512, tokens_per_sample=4096, launch="l 1", rank=3, device_uuid="GPU-1",
                       owner="ada", group="nlp", dtype="bf16", model={"layers": 32})  # fmt: skip
    with run.step() as step:
        step.log(loss=2.5, compute_seconds=0.001)
    listener.stop()

    (block,) = [blocks.read(piece) for piece in hold.take(10_000)]
    teller, steps = block.teller, block.steps
    assert (teller.run, teller.launch, teller.rank, teller.devices, teller.pid) == (
        "llm",
        "l-1",
        3,
        ("GPU-1",),
        os.getpid(),
    )
    assert (teller.owner, teller.group, teller.world_size) == ("ada", "nlp", 1)
    about = {name: value for name, value in teller.description.items() if name not in {"python", "framework"}}
    assert about == {"samples_per_step": 512, "tokens_per_sample": 4096, "dtype": "bf16", "model": {"layers": 32}}
    assert [steps.number, steps.samples, steps.tokens, steps.loss] == [[1], [512], [512 * 4096], [2.5]]
    assert steps.compute_seconds.tolist() == [0.001]
    assert abs(steps.ended_ms[0] - time.time() * 1000) < 60_000
    assert (run.dropped, hold.invalid) == (0, 0)


def test_a_step_is_timed_from_its_begin_to_its_end(agent):
    run, began = stepwatt.run("r"), time.monotonic_ns()
    with run.step():
        time.sleep(0.05)

    assert 0.05e9 <= record(agent).nanoseconds <= time.monotonic_ns() - began


def test_step_times_are_those_of_a_clock_of_the_loops_own(agent):
    run, own = stepwatt.run("r"), []
    for _ in range(8):  # what the kernel keeps without a reader
        with run.step():
            began = time.monotonic_ns()
            time.sleep(0.005)
            ended = time.monotonic_ns()
        own.append(ended - began)

    differences = [record(agent).nanoseconds - mine for mine in own]
    assert min(differences) >= 0
    assert min(differences) < 20_000  # others where the machine did something else in between


def test_steps_count_from_one_or_from_where_a_checkpoint_left_off(agent):
    run = stepwatt.run("r")
    for number in (None, None, 1000, None):
        with run.step(number):
            pass

    assert [record(agent).number for _ in range(4)] == [1, 2, 1000, 1001]


def test_what_a_step_logs_comes_before_what_the_run_says(agent):
    with stepwatt.run("r", samples_per_step=8, tokens_per_sample=2).step(is_warmup=True) as step:
        step.log(samples=7)

    found = record(agent)
    assert (found.samples, found.tokens, found.flags) == (7, 14, WARM_UP)


class Tensor:
    """A device's number: to read it would wait for the device."""

    def __float__(self):
        raise AssertionError("the device was synchronised")

    item = __int__ = __index__ = __float__


@pytest.mark.parametrize("loss", [Tensor(), float("nan"), "2.5", None, True, 10**400])
def test_what_is_no_plain_number_is_left_out(agent, loss):
    with stepwatt.run("r").step() as step:
        step.log(loss=loss)

    assert math.isnan(record(agent).loss)


def test_phases_are_measured_and_told(agent):
    run = stepwatt.run("r")
    with run.step() as step:
        for _ in range(2):
            with step.phase("forward"):
                time.sleep(0.01)
        step.add_phase("optimizer", 0.5)
    with run.step() as second, second.phase("data"):
        pass

    assert step.phases["forward"] >= 0.02
    assert phases(agent) == pytest.approx(step.phases, abs=1e-8)
    assert set(phases(agent)) == {"data"}


def test_more_phases_than_can_travel_leave_the_others_as_they_are(agent):
    with stepwatt.run("r").step() as step:
        for number in range(40):
            step.add_phase(f"phase é {number}", 0.1)

    assert len(phases(agent)) == datagram.MAX_PHASES


@pytest.mark.parametrize("name", ["communication", "all_reduce", "sync"])
def test_compute_is_what_is_left_without_communication(agent, name):
    with stepwatt.run("r").step() as step:
        step.add_phase(name, 1e-9)
        time.sleep(0.01)

    found = record(agent)
    assert found.compute_ns == found.nanoseconds - 1


def test_what_is_timed_outside_of_steps_is_told_as_what_it_is(agent):
    run = stepwatt.run("r", samples_per_step=8)
    with run.step(4):
        pass
    for name in ("evaluation", "checkpoint", "logging"):
        with run.phase(name):
            pass
    run.add("validation", 1.5)

    kinds = [record(agent) for _ in range(5)]
    assert [each.kind for each in kinds] == [
        StepKind.TRAIN, StepKind.VALIDATION, StepKind.CHECKPOINT, StepKind.OTHER, StepKind.VALIDATION
    ]  # fmt: skip
    assert [each.number for each in kinds] == [4] * 5
    assert kinds[-1].nanoseconds == 1_500_000_000
    assert math.isnan(kinds[-1].samples)


def test_what_the_run_logs_and_times_is_the_open_steps(agent):
    run = stepwatt.run("r")
    with run.step():
        run.log(loss=1.5)
        with run.phase("forward"):
            pass
    run.log(loss=0.5, unknown=1)
    with run.step():
        pass

    first, told = frame(agent)
    assert (first["phases"], told.loss, told.kind) == (["forward"], 1.5, StepKind.TRAIN)
    assert record(agent).loss == 0.5


def test_an_iterator_has_a_step_around_each_batch_with_its_waiting_for_data(agent):
    def loader():
        for batch in range(3):
            time.sleep(0.01)
            yield batch

    run = stepwatt.run("r")
    assert list(run.steps(loader(), warm_up=1)) == [0, 1, 2]

    found = [frame(agent) for _ in range(3)]
    assert [told.number for _, told in found] == [1, 2, 3]
    assert [told.flags for _, told in found] == [WARM_UP, 0, 0]
    assert all(told.nanoseconds >= told.phases_ns[0] >= 10**7 for _, told in found)
    with run.step():
        pass
    assert record(agent).number == 4


def test_a_decorated_function_is_a_step_a_call(agent):
    run = stepwatt.run("r")

    @run.step_function
    def train(batch, *, scale):
        """Train."""
        return batch * scale

    assert (train(3, scale=2), train.__doc__) == (6, "Train.")
    assert record(agent).number == 1


def test_a_step_may_begin_and_end_in_different_calls_and_is_told_once(agent):
    run = stepwatt.run("r")
    began = time.monotonic_ns()
    step = run.step().begin()
    step.stop()
    stopped = time.monotonic_ns()
    time.sleep(0.05)
    step.number = 9
    step.end()
    step.end()
    with run.step():
        pass

    first, second = record(agent), record(agent)
    assert (first.number, second.number) == (9, 2)
    assert first.nanoseconds <= stopped - began
    assert [first.sequence, second.sequence] == [0, 1]


def test_an_error_of_the_loop_passes_through_and_its_step_is_not_told(agent):
    run = stepwatt.run("r")
    with pytest.raises(KeyError), run.step() as step, step.phase("forward"):
        raise KeyError
    with run.step():
        pass

    assert record(agent).number == 2


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
