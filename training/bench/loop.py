"""A training loop that does nothing but to be watched, a process of its own: `python -m training.bench.loop CLIENT STEPS`.

`CLIENT` is the folder of the package stepwatt. Each way is called some times in a row, and then once more after the loop has
multiplied matrices, which leaves the caches cold. Writes one line of JSON:
{"costs": {name: [ns, …]}, "cold": {name: [ns, …]}, "own": [[ns inside, ns around], …], "dropped": n}.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

STEP, IDLE = "step", "no agent"
RECORD_FUNCTION, ADD_SCALAR = "torch.profiler.record_function", "TensorBoard's add_scalar"
FIRST_TIMED = 10**6  # the numbers of the steps that the loop times too
_NOWHERE = "/nonexistent/steps.sock"
_WIDTH, _IN_A_ROW, _REST_SECONDS, _TIMED_SECONDS = 256, 5, 0.004, 0.005

Way = Callable[[int], object]


def run(client: str, n_steps: int) -> None:
    sys.path.insert(0, client)
    import torch

    stepwatt = import_module("stepwatt")

    torch.set_num_threads(1)
    idle = _idle(stepwatt)
    watched = stepwatt.run("bench", samples_per_step=8, tokens_per_sample=4096)
    matrix = torch.rand(_WIDTH, _WIDTH)
    with tempfile.TemporaryDirectory() as directory:
        ways = _ways(watched, idle, torch, directory)
        costs: dict[str, list[int]] = {name: [] for name in ways}
        cold: dict[str, list[int]] = {name: [] for name in ways}
        for number in range(n_steps // _IN_A_ROW + 1):
            for name, way in ways.items():
                in_a_row = [_cost(way, number) for _ in range(_IN_A_ROW + 1)]
                matrix = torch.tanh(matrix @ matrix)
                after = _cost(way, number)
                if number:  # the first round finds nothing prepared
                    costs[name] += in_a_row[1:]
                    cold[name].append(after)
            time.sleep(_REST_SECONDS)
    own = [_timed(watched, FIRST_TIMED + number) for number in range(n_steps // 5)]
    sys.stdout.write(json.dumps({"costs": costs, "cold": cold, "own": own, "dropped": watched.dropped}) + "\n")


def _cost(way: Way, number: int) -> int:
    began = time.perf_counter_ns()
    way(number)
    return time.perf_counter_ns() - began


def _ways(watched: Any, idle: Any, torch: Any, directory: str) -> dict[str, Way]:
    def step(_: int) -> None:
        with watched.step():
            pass

    def without_agent(_: int) -> None:
        with idle.step():
            pass

    def recorded(_: int) -> None:
        with torch.profiler.record_function("step"):
            pass

    ways: dict[str, Way] = {STEP: step, IDLE: without_agent, RECORD_FUNCTION: recorded}
    if find_spec("tensorboard") is not None:  # torch's writer needs it
        from torch.utils.tensorboard import SummaryWriter

        writer: Any = SummaryWriter(directory)
        ways[ADD_SCALAR] = lambda number: writer.add_scalar("loss", 0.5, number)
    return ways


def _idle(stepwatt: Any) -> Any:
    """Return a run that has found no agent."""
    socket, os.environ["STEPWATT_SOCKET"] = os.environ["STEPWATT_SOCKET"], _NOWHERE
    run = stepwatt.run("idle")
    with run.step():
        pass
    run._socket.look_at_ns = time.perf_counter_ns() + 3600 * 10**9  # noqa: SLF001 — the other one is there now
    os.environ["STEPWATT_SOCKET"] = socket
    return run


def _timed(watched: Any, number: int) -> tuple[int, int]:
    """Return how long a step took by a clock of the loop's own: read inside of the step, and around it."""
    clock = time.CLOCK_MONOTONIC_RAW
    before = time.clock_gettime_ns(clock)
    with watched.step(number):
        began = time.clock_gettime_ns(clock)
        until = time.monotonic() + _TIMED_SECONDS
        while time.monotonic() < until:
            pass
        ended = time.clock_gettime_ns(clock)
    return ended - began, time.clock_gettime_ns(clock) - before


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]))
