"""How long the energy accounts of 10,000 GPUs over 30 days take over HTTP: by host and by device, and idle waste. Without a peer.

Called by bench/query.py. Every request asks for another window. The rollups are made up (energy_data.py): asked is what reading
and summing them costs.
"""

import time
from collections.abc import Sequence
from http.client import HTTPConnection
from math import ceil
from pathlib import Path
from statistics import median
from urllib.parse import urlencode

from telemetry.bench.figure import Figure
from telemetry.bench.own_server import Calls, own_server
from telemetry.bench.peer import answered
from telemetry.bench.query_data import DAY_MS, HOUR_MS

N_HOSTS = 1250
N_REQUESTS = 12
MOST_MS = 300.0  # of the accounts by host: a table of the power page
_SPAN_MS = 30 * DAY_MS
_PASSWORD = "unused by tokens"  # noqa: S105 — of a server that lives for minutes, on the loopback
_QUESTIONS = (
    ("energy", "host", MOST_MS), ("energy", "device", None), ("energy/idle", "host", None), ("energy/idle", "device", None),
)  # fmt: skip


def run(end_ms: int, directory: Path) -> list[Figure]:
    """Return the figures. Raises BenchFailed."""
    with own_server(directory) as server:
        seeding = Calls(server.environment, "telemetry.bench.energy_calls")
        try:
            seeding("seed_energy", N_HOSTS, end_ms)
        finally:
            seeding.end()
        headers = {"Authorization": f"Bearer {server.calls('let_in', 'bench', _PASSWORD)}"}
        connection = server.start_web().connect()
        found = []
        for what, group_by, most_ms in _QUESTIONS:
            seconds = [_asked(connection, what, group_by, end_ms - n * HOUR_MS, headers) for n in range(N_REQUESTS + 1)]
            found += _figures(f"{what.replace('/', ', ')} by {group_by}", seconds[1:], most_ms)
        connection.close()
    return found


def _asked(connection: HTTPConnection, what: str, group_by: str, end_ms: int, headers: dict[str, str]) -> float:
    path = f"/api/v1/{what}?" + urlencode({"start": end_ms - _SPAN_MS, "end": end_ms, "group_by": group_by})
    began = time.perf_counter()
    connection.request("GET", path, headers=headers)
    answered(connection, path)
    return time.perf_counter() - began


def _figures(name: str, seconds: Sequence[float], most_ms: float | None) -> list[Figure]:
    ordered = [1000 * each for each in sorted(seconds)]
    p95_ms = ordered[ceil(0.95 * len(ordered)) - 1]
    name = f"{name}, {N_HOSTS * 8:,} GPUs over 30 d"
    target, met = ("", None) if most_ms is None else (f"at most {most_ms:g} ms", p95_ms <= most_ms)
    return [
        Figure(f"{name}, median", median(ordered), "ms"),
        Figure(f"{name}, p95", p95_ms, "ms", target=target, met=met),
    ]
