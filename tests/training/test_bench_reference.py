"""The bench of reference jobs in the small: that it measures what it says, whatever this machine's figures are."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from telemetry.bench.figure import BenchFailed
from training.bench import harness_cost, job_sizes, job_times, many_hosts, paired_loops
from training.ladder.speedup import speedup


def test_a_training_is_driven_in_turns_under_a_real_agent(tmp_path, monkeypatch):
    for name, value in {"PAIRS": "3", "WORKLOADS": "gpt-lora", "SIZE": "ci"}.items():
        monkeypatch.setenv(f"STEPWATT_BENCH_{name}", value)

    share, rates, by_cpu, own, agent, others = harness_cost.run(tmp_path)

    assert share.name.startswith("gpt-lora, batch 8: throughput over the bare loop's, 3 pairs of ")
    assert 0.05 < share.value < 20
    assert rates.value > 0
    assert rates.peer_value > 0
    assert 0.05 < by_cpu.value < 20
    assert 0 < own.value < 100_000
    assert agent.value > 0
    assert others.value >= 0


def test_a_jobs_whole_time_and_its_steps_are_told(tmp_path, monkeypatch):
    monkeypatch.setenv("STEPWATT_BENCH_SIZE", "ci")
    monkeypatch.setattr(job_sizes, "WORKLOADS", ["resnet-infer"])

    (figure,) = job_sizes.run(tmp_path / "product")

    assert figure.name == "resnet-infer, size ci: 60 measured steps, whole job"
    assert 0 < figure.value < 600


@pytest.mark.parametrize(
    ("harness", "met"),
    [([1.0, 1.001, 0.999, 1.0], True), ([1.05, 1.051, 1.049, 1.05], False), ([1.0, 1.4, 0.8, 1.1], None)],
)
def test_only_an_interval_that_can_decide_is_judged(harness, met):
    assert harness_cost._is_met(speedup([1.0] * 4, harness)) is met


@pytest.mark.parametrize(("answered", "live", "met"), [(1.9, 9.0, [True, True]), (2.1, 11.0, [False, False])])
def test_a_click_on_many_hosts_is_judged_by_its_worst(answered, live, met):
    clicks = [many_hosts.Click(0.2, 0.1, 0.05, 2.0), many_hosts.Click(answered, 0.1, 0.05, live)]

    assert [figure.met for figure in many_hosts._figures(clicks) if figure.target] == met


@pytest.mark.parametrize(("to_step", "to_gone", "met"), [(9.9, 4.9, [True, True]), (10.1, 5.1, [False, False])])
def test_a_launch_and_a_cancel_are_judged_by_the_slowest(tmp_path, monkeypatch, to_step, to_gone, met):
    times = iter([(99.0, 99.0), (1.0, 1.0), (to_step, to_gone), (1.0, 1.0)])  # the first warms the host up
    monkeypatch.setattr(job_times, "product", lambda directory: nullcontext())
    monkeypatch.setattr(job_times, "_once", lambda asked: next(times))

    assert [figure.met for figure in job_times.run(tmp_path)] == met


def test_a_workload_that_trains_nothing_has_no_bare_loop(tmp_path, monkeypatch):
    monkeypatch.setenv("STEPWATT_BENCH_WORKLOADS", "gemm-sweep")

    with pytest.raises(BenchFailed, match="gemm-sweep: no training"):
        harness_cost.run(tmp_path)


def test_the_bare_loop_and_the_harness_train_alike():
    order = {
        "workload": "gpt-train",
        "params": {"size": "ci"},
        "device_kind": "cpu",
        "device_uuid": "",
        "driver_version": "",
    }
    order |= {"run": "x", "launch": "reference-1-x", "socket_path": "/nonexistent"}

    def losses(side: str) -> list[float]:
        sides = paired_loops.Sides(paired_loops.orders.read(paired_loops.json.dumps(order)), Silent())
        sides.spent(side, 4)  # each batch once
        return [sides.work.step() for _ in range(1)]

    bare, harness = losses(paired_loops.BARE), losses(paired_loops.HARNESS)
    assert bare == pytest.approx(harness, rel=1e-5)


@pytest.mark.parametrize(
    ("n_pairs", "turns"),
    [(2, "harness bare bare harness harness"), (3, "harness bare bare harness harness bare bare harness")],
)
def test_of_two_pairs_the_first_begins_with_the_harness_and_the_second_with_the_bare_loop(n_pairs, turns):
    came = []
    gate = SimpleNamespace(pass_to=came.append)
    work = SimpleNamespace(step=lambda: 1.0, batch_size=8)
    sides = SimpleNamespace(work=work, spent=lambda side, n_steps: (n_steps, 0.0))
    found = paired_loops.Turns(sides, gate, 5)

    assert [found.step() for _ in range(5 * n_pairs + 1)] == [1.0] * (5 * n_pairs + 1)

    assert came == turns.split()
    assert len(found.spent[paired_loops.HARNESS]) == n_pairs
    assert set(found.spent[paired_loops.BARE]) == {(5, 0.0)}
    assert found.batch_size == 8


class Silent:
    def stage(self, name: str) -> None: ...
    def progress(self, step: int, total: int) -> None: ...
