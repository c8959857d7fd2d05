"""One training, driven in turns by a bare loop and by the harness: a job's process of its own, under a real agent. No Django.

`python -m training.bench.paired_loops GATE PAIRS --parent PID --events-fd N < order.json`, as the agent starts a job's
interpreter (training/bench/harness_cost.py puts it there). Before each stretch of steps it says which side comes to the socket
GATE and waits for the answer; at the end it says what it measured, one line of JSON.
"""

import argparse
import json
import math
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from training.reference import order as orders
from training.reference import parent, surroundings
from training.reference.events import Events, StepSocket
from training.reference.harness import Loop
from training.reference.order import Order
from training.reference.work import Work
from training.utilisation.flops import Flops
from training.workloads.catalog import find

BARE, HARNESS = "bare", "harness"
_STRETCH_SECONDS = 2.0  # the machine drifts: two of one second differ half as much as two of five
_FEWEST_STEPS, _MOST_STEPS = 3, 200
_HOLLOW_STEPS = 1_000
_WARM_UP_STEPS, N_WARM_UP_STRETCHES = 5, 2  # one by each side


class Gate:
    """The way to whoever stops and starts the agent."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._file = self._socket.makefile("rw")

    def pass_to(self, side: str) -> None:
        """Return once the machine is as that side is to be measured."""
        self.tell(side)
        self._file.readline()

    def tell(self, text: str) -> None:
        self._file.write(text + "\n")
        self._file.flush()


class Sides:
    """One model, optimiser and data, and two ways to have it do some steps."""

    def __init__(self, order: Order, events: Events) -> None:
        workload = find(order.workload)
        self._device = import_module("training.reference.device").open_device(order)
        self.work = import_module(f"training.reference.{workload.module}").build(self._device, order.params)
        self._order, self._events, self._socket = order, events, StepSocket(order.socket_path)
        self.batch_size: int = self.work.batch_size

    def spent(self, side: str, n_steps: int) -> tuple[float, float]:
        """Return how long so many steps took, and the CPU time of this process meanwhile."""
        self._device.synchronise()
        began = _now()
        if side == BARE:
            self._bare(n_steps)
        else:
            self.harness(self.work, n_steps)
        return _since(began)

    def own_seconds_a_step(self) -> float:
        """Return the CPU time that the harness takes for itself: of steps that do nothing, told as all are."""
        params = self._order.params | {"warmup_steps": 1, "steps": _HOLLOW_STEPS}
        order, began = replace(self._order, params=params), time.thread_time()
        Loop(order, _Hollow(), self._device, self._socket.send, self._events).run()
        return (time.thread_time() - began) / _HOLLOW_STEPS

    def _bare(self, n_steps: int) -> None:
        """Train as plain PyTorch is written: nothing is timed, told or waited for but the last step."""
        import torch

        work, device = self.work, self._device
        scaler = device.scaler()
        for number in range(n_steps):
            batch = work.batches[number % len(work.batches)]
            work.optimiser.zero_grad(set_to_none=True)
            with device.autocast():
                loss = work.loss(work.network, batch)
            scaler.scale(loss).backward()
            if work.clips_gradients:
                scaler.unscale_(work.optimiser)
                torch.nn.utils.clip_grad_norm_(work.trained, 1.0)
            scaler.step(work.optimiser)
            scaler.update()
        device.synchronise()

    def harness(self, work: Work, n_steps: int) -> None:
        params = self._order.params | {"warmup_steps": 0, "steps": n_steps}
        Loop(replace(self._order, params=params), work, self._device, self._socket.send, self._events).run()


class Turns:
    """The training as the harness is given it: one job, whose steps come in stretches, with the bare loop's in between.

    So what a job does once, before and after its steps and outside of its window, counts in no stretch.
    """

    def __init__(self, sides: Sides, gate: Gate, n_steps: int) -> None:
        self._sides, self._work, self._gate, self._n_steps = sides, sides.work, gate, n_steps
        self._n_done, self._began = 0, (0.0, 0.0)
        self.spent: dict[str, list[tuple[float, float]]] = {BARE: [], HARNESS: []}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._work, name)

    def step(self) -> float | None:
        if self._n_done % self._n_steps == 0:
            self._change(self._n_done // self._n_steps)
        self._n_done += 1
        loss: float | None = self._work.step()
        return loss

    def _change(self, number: int) -> None:
        """End a stretch of the harness and begin the one of this number; two of the bare loop stand before every second."""
        if number:
            self.spent[HARNESS].append(_since(self._began))
        for _ in range(2 if number % 2 else 0):
            self._gate.pass_to(BARE)
            self.spent[BARE].append(self._sides.spent(BARE, self._n_steps))
        self._gate.pass_to(HARNESS)
        self._began = _now()


def _now() -> tuple[float, float]:
    """Return the time and the CPU time of this process, in seconds."""
    return time.perf_counter(), time.process_time()


def _since(began: tuple[float, float]) -> tuple[float, float]:
    wall, cpu = _now()
    return wall - began[0], cpu - began[1]


class _Hollow:
    """A workload that does nothing."""

    model, data, batch_size, flops = "none", "none", 1, Flops(0, "none")
    parameters: int | None = None
    tokens_per_sample: int | None = None
    compute_seconds: float | None = None
    is_common = True

    def step(self) -> float | None:
        return 1.0

    def begin_measuring(self) -> None:
        """Nothing is kept."""

    def verify(self, losses: Sequence[float]) -> dict[str, Any]:
        return {}

    def figures(self) -> dict[str, Any]:
        return {}


def measure(order: Order, events: Events, gate: Gate, n_pairs: int) -> dict[str, object]:
    """Return what was measured, in pairs of which the first alternates.

    {"seconds": [[bare, harness], …], "cpu_seconds" alike, "n_steps", "batch_size", "own_seconds_a_step", "foreign_cores"}.
    """
    sides, seconds = Sides(order, events), 0.0
    for side in (BARE, HARNESS):
        gate.pass_to(side)
        seconds, _ = sides.spent(side, _WARM_UP_STEPS)
    n_steps = max(_FEWEST_STEPS, min(_MOST_STEPS, math.ceil(_STRETCH_SECONDS * _WARM_UP_STEPS / seconds)))
    before, began = surroundings.now(), time.perf_counter()
    turns = Turns(sides, gate, n_steps)
    sides.harness(turns, n_pairs * n_steps + 1)  # the last step begins the stretch that ends the last one
    pairs = list(zip(turns.spent[BARE], turns.spent[HARNESS], strict=False))
    around = surroundings.between(before, surroundings.now(), time.perf_counter() - began)
    return {
        "seconds": [[wall for wall, _ in pair] for pair in pairs],
        "cpu_seconds": [[cpu for _, cpu in pair] for pair in pairs],
        "n_steps": n_steps,
        "batch_size": sides.batch_size,
        "own_seconds_a_step": sides.own_seconds_a_step(),
        "foreign_cores": around["foreign_cores"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.bench.paired_loops")
    parser.add_argument("gate", type=Path)
    parser.add_argument("pairs", type=int)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--events-fd", type=int, required=True)
    arguments = parser.parse_args()
    parent.die_with(arguments.parent)
    events, gate = Events(arguments.events_fd), Gate(str(arguments.gate))
    order = orders.read(sys.stdin.read())
    gate.tell(json.dumps(measure(order, events, gate, arguments.pairs)))
    events.result({})


if __name__ == "__main__":
    main()
