"""How long each workload takes at its CPU size with its default parameters, and how many steps it measures.

On the whole product, one job after the other. The compile rung is apart: its first step alone takes half a minute.
STEPWATT_BENCH_SIZE=ci has the tiny size run instead, to see that the bench works.
"""

import os
from datetime import datetime
from pathlib import Path
from typing import Any

from telemetry.bench.figure import BenchFailed, Figure
from training.bench.product import Product, product
from training.workloads.catalog import WORKLOADS

MOST_SECONDS, FEWEST_STEPS = 90.0, 30
_PATIENCE_SECONDS = 900.0


def run(directory: Path) -> list[Figure]:
    """Return the figures. Raises BenchFailed."""
    size = os.environ.get("STEPWATT_BENCH_SIZE") or "auto"
    with product(directory) as asked:
        return [_figure(name, _done(asked, name, size), size) for name in WORKLOADS]


def _done(asked: Product, workload: str, size: str) -> dict[str, Any]:
    job = asked.wait_for_end(asked.launch(workload, device=asked.cpu, size=size), _PATIENCE_SECONDS)
    if job["state"] != "done":
        raise BenchFailed(f"{workload}: {job['state']}, {job['reason']}")
    return job


def _figure(workload: str, job: dict[str, Any], size: str) -> Figure:
    """A job's time is from its launch to its end, as its host's clock has it."""
    created, ended = (datetime.fromisoformat(job[name]) for name in ("created_at", "ended_at"))
    seconds, steps = (ended - created).total_seconds(), job["result"]["measured_steps"]
    which = "its CPU size" if size == "auto" else f"size {size}"
    name = f"{workload}, {which}: {steps} measured steps, whole job"
    target = f"at most {MOST_SECONDS:g}, with {FEWEST_STEPS} steps"
    return Figure(name, seconds, "s", target=target, met=seconds <= MOST_SECONDS and steps >= FEWEST_STEPS)
