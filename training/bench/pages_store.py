"""Reference results and runs of the fleet of the pages' bench. Its functions run in processes whose data directory is temporary.

Never call it where somebody's data is. Called through pages_calls.py, after telemetry/bench/pages_store.py has made the fleet.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from fleet.models import Device
from telemetry.prices.energy_rates import Rates
from training.judging import metrics
from training.models import JobState, Outcome, ReferenceJob, Run, RunLife, RunRank, Verdict
from training.runs import book, lives
from training.runs.book import Told
from training.steps import columns as step_columns
from training.steps.teller import Teller

_WORKLOADS = ("gpt-train", "resnet-train")
_RANKS, _HOUR_SECONDS = 8, 3600
_RESULT = {
    "samples_per_second": 320.0, "step_seconds_median": 0.2, "achieved_flops_per_second": 3e14, "precision": "bf16",
    "batch_size": 64, "device_name": "NVIDIA H100 80GB HBM3",
}  # fmt: skip
_DESCRIPTION = {"samples_per_step": 64, "tokens_per_sample": 1024, "flops_per_sample": 1.5e13, "dtype": "bf16"}


def results() -> None:
    """Give every device a result of one workload beside its baseline, and the first of each host one of another."""
    devices = list(Device.objects.order_by("host_id", "index"))
    now, draw = datetime.now(UTC), np.random.default_rng(31)
    _results(devices, _WORKLOADS[0], now, draw)
    _results([device for device in devices if device.index == 0], _WORKLOADS[1], now, draw)


def _results(devices: Sequence[Device], workload: str, now: datetime, draw: np.random.Generator) -> None:
    told = {"result": _RESULT, "energy": {"samples_per_joule": 0.6, "mean_watts": 520.0, "joules": 5200.0}}
    about = {"workload": workload, "state": JobState.DONE, "time_limit_seconds": 600, "requested_by": "bench", **told}
    times = {"created_at": now, "expires_at": now, "started_at": now, "ended_at": now}
    jobs = ReferenceJob.objects.bulk_create(
        ReferenceJob(launch=f"{workload}-{at}", host_id=device.host_id, device=device, **about, **times)
        for at, device in enumerate(devices)
    )
    metric = metrics.of_workload(workload)[0].name
    screen = {"side": "population", "metric": metric, "n": 40, "z": 0.4}
    Verdict.objects.bulk_create(
        Verdict(
            job=job, key=workload, device_key=job.device_id, outcome=Outcome.PASS, ended_at=now, judged_at=now,
            values={metric: 0.2 * (1 - share)}, screens=[{**screen, "deviation": share}],
        )
        for job, share in zip(jobs, (0.02 * draw.standard_normal(len(jobs))).tolist(), strict=True)
    )  # fmt: skip


def runs(n_ended: int, n_running: int) -> None:
    """Make runs of eight devices each: some that are over, their figures worked out, and some with an hour's steps that go on."""
    devices = list(Device.objects.select_related("host").order_by("host_id", "index"))
    now = datetime.now(UTC)
    ended = Run.objects.bulk_create(
        Run(
            name=f"run-{at}", launch="bench", owner=f"user-{at % 40}", group=f"group-{at % 15}",
            started_at=now - timedelta(hours=6 + at % 150), last_step_at=now - timedelta(hours=1 + at % 150),
            ends_at=now - timedelta(hours=1 + at % 150),
        )
        for at in range(n_ended)
    )  # fmt: skip
    _lives(ended)
    RunRank.objects.bulk_create(
        _rank(run, rank, devices[(_RANKS * at + rank) % len(devices)])
        for at, run in enumerate(ended)
        for rank in range(_RANKS)
    )
    for at in range(n_running):
        book.enter(_told(at, devices[_RANKS * at : _RANKS * (at + 1)]))


def _rank(run: Run, rank: int, device: Device) -> RunRank:
    first, last = (int(at.timestamp() * 1000) for at in (run.started_at, run.last_step_at or run.started_at))
    return RunRank(
        run=run, rank=rank, process=f"p{rank}", host_id=device.host_id, device=device, device_uuids=[device.uuid],
        first_ms=first, last_ms=last, n_steps=18_000, seconds=18_000.0,
    )  # fmt: skip


def _lives(ended: Sequence[Run]) -> None:
    rates = lives.digest(Rates.in_force())
    RunLife.objects.bulk_create(
        RunLife(
            run=run, last_step_at=run.last_step_at or run.started_at, rates=rates, device_hours=40.0, joules=7.5e7,
            covered_ratio=1.0, busy_ratio=0.95, idle_energy_ratio=0.02, mfu_ratio=0.41, goodput_ratio=0.9, per_joule=3.0,
            per_joule_unit="tokens_per_joule", trend=[1e5] * 48,
        )
        for run in ended
    )  # fmt: skip


def _told(at: int, devices: Sequence[Device]) -> list[Told]:
    """Return an hour's steps of each rank, one a second, up to now."""
    start_ms = (int(time.time()) - _HOUR_SECONDS) * 1000
    number = np.arange(_HOUR_SECONDS)
    told = {
        "number": number,
        "ended_ms": start_ms + 1000.0 * (number + 1),
        "seconds": np.full(_HOUR_SECONDS, 0.98),
        "samples": np.full(_HOUR_SECONDS, 8.0),
        "tokens": np.full(_HOUR_SECONDS, 8192.0),
    }
    teller = Teller(
        f"going-{at}",
        "bench",
        0,
        owner=f"user-{at % 40}",
        group=f"group-{at % 15}",
        world_size=_RANKS,
        description=_DESCRIPTION,
    )
    return [
        Told(
            device.host,
            replace(teller, rank=rank, process=f"p{rank}", devices=(device.uuid,)),
            step_columns.of_arrays({**told, "rank": np.full(_HOUR_SECONDS, rank)}),
        )
        for rank, device in enumerate(devices)
    ]
