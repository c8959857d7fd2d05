"""Runs with steps, for tests of their pages and API."""

from datetime import UTC, datetime

import numpy as np
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from fleet.models import Host
from tests.factories import make_chunks, make_device, make_host
from tests.training.stored_steps import TELLER
from training.models import Run
from training.runs import book
from training.runs.book import Told
from training.steps import columns as step_columns
from training.steps.columns import StepColumns

START = 1_700_000_000_000
PHASES = {"data": 0.05, "forward": 0.3, "backward": 0.5}
DESCRIPTION = {
    "samples_per_step": 16,
    "tokens_per_sample": 1024,
    "flops_per_sample": 5e13,
    "dtype": "bf16",
    "framework": "torch",
}


def rank_steps(rank: int, n_steps: int = 40, *, slow: float = 1.0, start_ms: float = START, **columns) -> StepColumns:
    """A step of 1 s each second: compute is the phases' sum, the rest waits; a `slow` rank computes so many times longer."""
    choose = np.random.default_rng(rank)
    compute = 0.85 * slow * (1 + 0.002 * choose.normal(size=n_steps))
    told = {
        "rank": np.full(n_steps, rank),
        "number": np.arange(n_steps),
        "ended_ms": start_ms + 1000.0 * np.arange(1, n_steps + 1),
        "seconds": np.full(n_steps, 1.0),
        "compute_seconds": compute,
        "samples": np.full(n_steps, 8.0),
        "tokens": np.full(n_steps, 8192.0),
        "loss": 5.0 - 0.01 * np.arange(n_steps),
    }
    phases = {name: np.full(n_steps, seconds * slow) for name, seconds in PHASES.items()}
    return step_columns.of_arrays(told | columns, phases)


def make_run(name: str = "llm-7b", n_ranks: int = 2, *, host: Host | None = None, slow: dict[int, float] | None = None,
             n_steps: int = 40, n_lost: int = 0, **teller) -> Run:  # fmt: skip
    """A run of one GPU a rank on a host, which has ended long ago."""
    host = host or Host.objects.filter(name="gpu-a01").first() or make_host("gpu-a01")
    devices = [host.devices.filter(index=rank).first() or make_device(host, rank) for rank in range(n_ranks)]
    told = []
    for rank, device in enumerate(devices):
        steps = rank_steps(rank, n_steps, slow=(slow or {}).get(rank, 1.0))
        about = {"owner": "ada", "group": "nlp", "world_size": n_ranks, "description": DESCRIPTION} | teller
        who = book.Teller(
            name, f"launch-{name}", rank, user=TELLER.user, process=f"{name}-{rank}", devices=(device.uuid,), **about
        )
        told.append(Told(host, who, steps, n_steps - 1 + n_lost, n_lost // 2))
    return book.enter(told)[told[0].teller.key]


def goes_on(run: Run) -> Run:
    """Make the run one that has just told a step, with its steps where they are."""
    Run.objects.filter(pk=run.pk).update(ends_at=datetime(9999, 1, 1, tzinfo=UTC))
    run.refresh_from_db()
    return run


def with_power(run: Run, watts: float = 600.0, n_seconds: int = 40) -> Run:
    """Store power, utilisation, temperature and clock of the run's devices, a sample a second over its steps."""
    ranks = list(run.ranks.select_related("host", "device"))
    devices = [rank.device for rank in ranks]
    times = [START + 1000 * i for i in range(n_seconds + 1)]
    readings = {
        "power_draw_watts": watts,
        "gpu_utilization_ratio": 0.9,
        "temperature_celsius": 60.0,
        "sm_clock_hertz": 1.98e9,
    }
    columns = {name: [[value] * len(times) for _ in devices] for name, value in readings.items()}
    make_chunks(ranks[0].host, devices, times, columns, ticks=len(times))
    return run


def queries_of(client: Client, path: str) -> int:
    with CaptureQueriesContext(connection) as captured:
        client.get(path)
    return len(captured)
