"""1,000 ranks that tell of ten steps a second, through broker and ingest into the store; and reading a run of a million steps.

STEPWATT_BENCH_RANKS_SECONDS is how long they do (60); the figures say how long it was.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from fleet.settings import BASE_DIR
from telemetry.bench.figure import BenchFailed, Figure
from telemetry.bench.own_server import Calls, Server, own_server
from telemetry.bench.peer import Peer, answered
from telemetry.bench.signals import GPUS_PER_HOST
from training.bench.rank_sender import STEPS_A_SECOND

N_HOSTS, SECONDS = 125, 60
N_STEPS, N_RANKS = 1_000_000, 10
MOST_PAGE_MS = 300.0
MOST_LATE_SECONDS = 5.0  # else it was no ten steps a second
_HTMX = {"HX-Request": "true"}
_ROWS = "range=run&row=step&row=tokens&row=loss&phase=data&phase=forward&phase=backward"
_COLUMNS = ["seconds", "kind", "is_warmup", "attempt", "number", "samples", "compute_seconds"]  # what figures go by


def run(directory: Path) -> list[Figure]:
    """Return the figures. Raises BenchFailed."""
    seconds = int(os.environ.get("STEPWATT_BENCH_RANKS_SECONDS") or SECONDS)
    with own_server(directory) as server:
        asked = Calls(server.environment, "training.bench.asked")
        try:
            return [*_of_ingest(server, asked, seconds), *_of_reading(server, asked)]
        finally:
            asked.end()


def _of_ingest(server: Server, asked: Calls, seconds: int) -> list[Figure]:
    server.start_worker()
    seeds = server.calls("enrol", [f"sim-{n:04}" for n in range(N_HOSTS)])
    before, began = server.cpu_seconds(), time.monotonic()
    told = _sent(server, seeds, seconds)
    server.wait_for_batches(told["n_batches"])
    took, cores = time.monotonic() - began, server.cpu_seconds() - before
    kept = asked("n_steps")
    name = f"{N_HOSTS * GPUS_PER_HOST:,} ranks × {STEPS_A_SECOND} steps/s for {seconds} s"
    is_whole = kept == {"stored": told["n_steps"], "frames": told["n_steps"], "lost": 0}
    return [
        Figure(
            f"{name}: steps lost of {told['n_steps']:,}",
            told["n_steps"] - kept["stored"],
            "steps",
            target="none",
            met=is_whole,
        ),
        Figure("the same: from the first step until all are stored", took, "s"),
        Figure("the same: broker and ingest", cores / took, "cores"),
        Figure(
            "the same: the ranks fell behind their clock by",
            told["late_seconds"],
            "s",
            target=f"at most {MOST_LATE_SECONDS:g}",
            met=told["late_seconds"] <= MOST_LATE_SECONDS,
        ),
        Figure("the same: all their chunks joined in", asked("compact_seconds"), "s"),
    ]


def _sent(server: Server, seeds: dict[str, str], seconds: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "training.bench.rank_sender"], cwd=BASE_DIR, text=True, check=False, stdout=subprocess.PIPE,
        input=json.dumps({"broker_url": server.broker_url, "seeds": seeds, "seconds": seconds}) + "\n",
    )  # fmt: skip
    if done.returncode or not done.stdout:
        raise BenchFailed("the ranks ended before their time; what they said stands above")
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _of_reading(server: Server, asked: Calls) -> list[Figure]:
    run_id = asked("make_run", N_STEPS, N_RANKS)
    name = f"a run of {N_STEPS:,} steps of {N_RANKS} ranks"
    some, whole = (median(asked("read_seconds", run_id, columns)) * 1000 for columns in (_COLUMNS, None))
    found = [
        Figure(
            f"{name}: its steps, the columns that figures go by",
            some,
            "ms",
            target=f"at most {MOST_PAGE_MS:g}",
            met=some <= MOST_PAGE_MS,
        ),
        Figure("the same: all columns", whole, "ms"),
        Figure("the same: a step in the database", asked("body_bytes", run_id) / N_STEPS, "bytes"),
    ]
    return [*found, *_of_page(server, asked, run_id)]


def _of_page(server: Server, asked: Calls, run_id: int) -> list[Figure]:
    web, cookie = server.start_web(), asked("session")
    page, figures = (_answer_ms(web, f"/runs/{run_id}/", cookie, headers) for headers in (None, _HTMX))
    return [
        Figure("the same: its page, median", page, "ms", target=f"at most {MOST_PAGE_MS:g}", met=page <= MOST_PAGE_MS),
        Figure("the same: its figures, which the page asks for itself, median", figures, "ms"),
        Figure(
            "the same: its charts' values, median", _answer_ms(web, f"/runs/{run_id}/arrays/?{_ROWS}", cookie), "ms"
        ),
        Figure("the same: its slow steps and ranks, median", _answer_ms(web, f"/runs/{run_id}/why/", cookie), "ms"),
        Figure("the same: its steps by the API, median", _answer_ms(web, f"/api/v1/runs/{run_id}/steps", cookie), "ms"),
    ]


def _answer_ms(web: Peer, path: str, session: str, headers: Mapping[str, str] | None = None) -> float:
    """Return how long the answer takes, of several, the first left out."""
    taken = []
    for _ in range(8):
        connection = web.connect()
        began = time.perf_counter()
        connection.request("GET", path, headers={"Cookie": f"sessionid={session}", **(headers or {})})
        answered(connection, path)
        taken.append((time.perf_counter() - began) * 1000)
        connection.close()
    return median(taken[1:])
