"""The package `stepwatt` in a training loop: what arrives at the agent."""

import math
import os
import time

import pytest
import stepwatt
from stepwatt import wire

from telemetry.agent.steps import StepListener
from tests.training.listening import frame, listening_at, phases, record
from training.host.steps import StepHold
from training.steps import blocks, datagram
from training.steps.columns import StepKind
from training.steps.datagram import UNTOLD_NS, WARM_UP


@pytest.fixture
def agent(tmp_path, monkeypatch):
    """Return a socket such as an agent's."""
    path = tmp_path / "steps.sock"
    monkeypatch.setenv("STEPWATT_SOCKET", str(path))
    with listening_at(path) as listening:
        yield listening


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
    run, differences = stepwatt.run("r"), []
    for _ in range(50):
        with run.step():
            began = time.monotonic_ns()
            time.sleep(0.005)
            ended = time.monotonic_ns()
        differences.append(record(agent).nanoseconds - (ended - began))

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
