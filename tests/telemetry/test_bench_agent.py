"""The agent's bench: what it measures with, what it makes of a missing peer, and one short run of all of it."""

import subprocess
import sys

import pytest

from telemetry.bench import agent, agent_wire
from telemetry.bench.agent import AGENT, BARE, PEER, POWER, REST, Spent
from telemetry.bench.bare_loop import CALLS
from telemetry.bench.figure import BenchFailed
from telemetry.bench.process_cost import cost_of

SPENT = {AGENT: Spent(3.0, 60_000_000, 300), POWER: Spent(5.0, 0, 0), REST: Spent(1.0, 0, 0), BARE: Spent(1.0, 0, 0)}
WORK = """
import time
while time.process_time() < 0.3:
    pass
print(time.process_time(), flush=True)
input()
"""
SLEEPS = """
import time
print("ready", flush=True)
input()
for _ in range(50):
    time.sleep(0.001)
print("slept", flush=True)
input()
"""


def test_the_cpu_time_of_another_process_is_what_it_used():
    process = subprocess.Popen([sys.executable, "-c", WORK], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    used = float(process.stdout.readline())
    cost = cost_of(process.pid)
    process.communicate(b"\n")

    assert used - 0.02 <= cost.cpu_seconds < used + 0.1  # the kernel counts in ticks of 10 ms


def test_each_sleep_of_a_thread_is_a_wake():
    process = subprocess.Popen([sys.executable, "-c", SLEEPS], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdout.readline()
    before = cost_of(process.pid).wakes
    process.stdin.write(b"\n")
    process.stdin.flush()
    process.stdout.readline()
    after = cost_of(process.pid).wakes
    process.communicate(b"\n")

    assert 50 <= after - before < 100


def test_a_process_that_ended_has_no_cost():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()

    with pytest.raises(BenchFailed, match="ended"):
        cost_of(process.pid)


def test_without_its_peer_a_figure_is_neither_met_nor_missed():
    beside = {figure.peer: figure for figure in agent._of_cpu(SPENT, 60.0)}

    assert (beside[PEER].peer_value, beside[PEER].met) == (None, None)


def test_the_agent_counts_over_its_worker_at_rest():
    beside = {figure.peer: figure for figure in agent._of_cpu({**SPENT, PEER: Spent(6.0, 0, 0)}, 125.0)}

    assert (beside[PEER].value, beside[PEER].peer_value, beside[PEER].met) == (2.0, 6.0, True)
    assert beside["the agent at 1 Hz"].value == 4.0


def test_the_bare_loop_makes_seventeen_calls():
    assert len(set(CALLS)) == 17


def test_simulated_batches_come_every_five_seconds(monkeypatch):
    monkeypatch.setattr(agent_wire, "SIMULATED_SECONDS", 20)

    assert len(agent_wire.simulated_batches(2)) == 4


def test_a_short_run_gives_every_figure(monkeypatch, nvml_library):
    monkeypatch.setenv("STEPWATT_BENCH_SECONDS", "7")  # the worker at rest wakes every 5 s
    monkeypatch.setattr(agent, "SETTLE_SECONDS", 8.0)
    monkeypatch.setattr(agent_wire, "SIMULATED_SECONDS", 20)

    figures = agent.run()

    assert len(figures) == 11
    assert all(figure.value > 0 for figure in figures)
    assert {figure.peer for figure in figures if figure.peer_value} == {
        PEER,
        "bare pynvml loop, 17 calls",
        "the agent at 1 Hz",
    }
