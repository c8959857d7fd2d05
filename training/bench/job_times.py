"""How soon a launched job makes its first step, and how soon a cancelled one is gone: on the whole product, as `make up` runs it.

Three times each, with `gpt-train` at this machine's own size; one job before them warms the files up.
"""

import time
from pathlib import Path

import psutil

from telemetry.bench.figure import BenchFailed, Figure
from training.bench.product import Product, product

MOST_TO_STEP_SECONDS, MOST_TO_GONE_SECONDS = 10.0, 5.0
_TIMES = 3
_WORKLOAD, _ENDLESS_STEPS = "gpt-train", 100_000
_PATIENCE_SECONDS = 120.0


def run(directory: Path) -> list[Figure]:
    """Return the figures. Raises BenchFailed."""
    with product(directory) as asked:
        _once(asked)
        times = [_once(asked) for _ in range(_TIMES)]
    to_step, to_gone = zip(*times, strict=True)
    return [
        _worst("from the launch to the first step that the server knows of", to_step, MOST_TO_STEP_SECONDS),
        _worst("from the cancel until the job's process is gone", to_gone, MOST_TO_GONE_SECONDS),
    ]


def _once(asked: Product) -> tuple[float, float]:
    """Return seconds from launch to first step, and from cancel to the process's end."""
    began = time.monotonic()
    job_id = asked.launch(_WORKLOAD, steps=_ENDLESS_STEPS)
    asked.wait_for_step(job_id, _PATIENCE_SECONDS)
    to_step = time.monotonic() - began
    process = asked.job_process()
    began = time.monotonic()
    asked.post(f"reference/jobs/{job_id}/cancel")
    try:
        process.wait(_PATIENCE_SECONDS)
    except psutil.TimeoutExpired as error:
        raise BenchFailed(f"the process of job {job_id} did not end") from error
    to_gone = time.monotonic() - began
    asked.wait_for_end(job_id, _PATIENCE_SECONDS)
    return to_step, to_gone


def _worst(name: str, seconds: tuple[float, ...], most: float) -> Figure:
    each = ", ".join(f"{value:.1f}" for value in seconds)
    return Figure(f"{name}, worst of {each}", max(seconds), "s", target=f"at most {most:g}", met=max(seconds) <= most)
