"""What a step costs the loop that tells of it, beside what people put into their loops today, and how true its time is.

A loop and the agent's side of the step socket, two processes of their own. STEPWATT_BENCH_LOOP_STEPS makes it shorter (2,000).
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from fleet.settings import BASE_DIR
from telemetry.bench.figure import BenchFailed, Figure
from telemetry.bench.own_server import wait_until
from training.bench.loop import ADD_SCALAR, FIRST_TIMED, IDLE, RECORD_FUNCTION, STEP

STEPS = 2_000
MOST_MEDIAN_US, MOST_P99_US, MOST_IDLE_US = 5.0, 20.0, 1.0
MOST_DIFFERENCE_US, MOST_DIFFERENCE = 20.0, 0.001
_PATIENCE_SECONDS = 600


def run(directory: Path) -> list[Figure]:
    """Return the figures. Raises BenchFailed."""
    loop, told = _measured(directory, int(os.environ.get("STEPWATT_BENCH_LOOP_STEPS") or STEPS))
    return [*_of_cost(loop["costs"], loop["dropped"]), *_cold(loop["cold"]), *_of_clocks(loop["own"], told)]


def _measured(directory: Path, n_steps: int) -> tuple[dict[str, Any], dict[int, float]]:
    """Return what the loop measured, and the seconds of its steps as they came to the agent, by number."""
    socket = directory / "steps.sock"
    listening = subprocess.Popen(
        [sys.executable, "-m", "training.bench.listening", str(socket)],
        cwd=BASE_DIR, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        wait_until(socket.exists, 30, "the step socket")
        loop = subprocess.run(
            [sys.executable, "-m", "training.bench.loop", str(BASE_DIR / "training" / "client"), str(n_steps)],
            cwd=BASE_DIR, env=os.environ | {"STEPWATT_SOCKET": str(socket)}, text=True, check=False,
            stdout=subprocess.PIPE, timeout=_PATIENCE_SECONDS,
        )  # fmt: skip
        heard, _ = listening.communicate(timeout=60)
    finally:
        listening.kill()
        listening.wait()
    if loop.returncode or listening.returncode not in {0, None} or not heard:
        raise BenchFailed("the loop or its listener ended with an error; what it said stands above")
    return json.loads(loop.stdout), {int(number): seconds for number, seconds in json.loads(heard)["seconds"].items()}


def _of_cost(costs: dict[str, list[int]], dropped: int) -> list[Figure]:
    step, idle, recorded, added = (costs.get(name) for name in (STEP, IDLE, RECORD_FUNCTION, ADD_SCALAR))
    if not step or not idle:
        raise BenchFailed("the loop measured nothing")
    found = []
    for words, of, most in (("median", median, MOST_MEDIAN_US), ("p99", _p99, MOST_P99_US)):
        value = of(step) / 1000
        for peer, values in ((RECORD_FUNCTION, recorded), (ADD_SCALAR, added)):
            beside = of(values) / 1000 if values else None
            found.append(
                Figure(
                    f"with run.step(), agent present, {words}",
                    value,
                    "µs",
                    peer,
                    beside,
                    f"at most {most:g}",
                    None if beside is None else value <= most,
                )
            )
    without = median(idle) / 1000
    target = f"at most {MOST_IDLE_US:g}"
    return [
        *found,
        Figure("with run.step(), no agent, median", without, "µs", target=target, met=without <= MOST_IDLE_US),
        Figure("the same loop: steps dropped by the client", dropped, "steps", target="none", met=dropped == 0),
    ]


def _cold(costs: dict[str, list[int]]) -> list[Figure]:
    """Return the same of a step after much else: what any call costs whose code has left the caches."""
    value = median(costs[STEP]) / 1000
    name = "with run.step(), agent present, after a matrix product, median"
    peers = ((peer, costs.get(peer)) for peer in (RECORD_FUNCTION, ADD_SCALAR))
    return [Figure(name, value, "µs", peer, median(values) / 1000 if values else None) for peer, values in peers]


def _of_clocks(own_ns: Sequence[tuple[int, int]], told: dict[int, float]) -> list[Figure]:
    """Return how far the steps' times are from those of the loop's own clock (CLOCK_MONOTONIC_RAW).

    Read inside of a step it says less than the step took, around it more: between the two a time is right, also where the
    machine gave the processor to another between two readings.
    """
    pairs = [(inside / 1e9, around / 1e9, told[FIRST_TIMED + place]) for place, (inside, around) in enumerate(own_ns)
             if FIRST_TIMED + place in told]  # fmt: skip
    if not pairs:
        raise BenchFailed("no step of the loop came to the agent")
    beyond = [max(0.0, inside - seconds, seconds - around) for inside, around, seconds in pairs]
    limits = [max(MOST_DIFFERENCE_US / 1e6, MOST_DIFFERENCE * inside) for inside, _, _ in pairs]
    n_wrong = sum(far > limit for far, limit in zip(beyond, limits, strict=True))
    more = median(seconds - inside for inside, _, seconds in pairs)
    return [
        Figure("step times less those of a clock read inside of the step, median", more * 1e6, "µs"),
        Figure("step times beyond a clock read inside and around the step: worst", max(beyond) * 1e6, "µs"),
        Figure(
            f"the same: of {len(pairs)} steps, those beyond by 0.1 % and 20 µs",
            n_wrong,
            "steps",
            target="none",
            met=not n_wrong,
        ),
    ]


def _p99(values: Sequence[int]) -> float:
    ordered = sorted(values)
    return float(ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))])
