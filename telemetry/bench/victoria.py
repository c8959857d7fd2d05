"""VictoriaMetrics as a peer: import as text and as JSON, its bytes after a forced merge, and range queries over HTTP.

Every setting is its default but the retention; the directory is on the same disk as the store's.
"""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

from telemetry.bench.figure import BenchFailed
from telemetry.bench.peer import Peer, answered, free_port, running
from telemetry.bench.signals import METRICS, Floats

PROGRAM = "victoria-metrics"
TEXT_PATH, JSON_PATH = "/api/v1/import/prometheus", "/api/v1/import"
_SETTLE_SECONDS, _MERGE_SECONDS = 2.0, 300.0


@contextmanager
def victoria(directory: Path) -> Iterator[Peer]:
    """Yield an empty server. Raises BenchFailed."""
    port, data = free_port(), directory / "victoria"
    data.mkdir()
    options = (f"-storageDataPath={data}", f"-httpListenAddr=127.0.0.1:{port}", "-retentionPeriod=10y")
    with running(PROGRAM, options, port, data, "/health") as peer:
        yield peer


def labels(host: str, index: int) -> dict[str, str]:
    return {"host": host, "cluster": "bench", "device": str(index), "uuid": f"GPU-{host}-{index}"}


def text_body(host: str, times_ms: Sequence[int], values: Floats, metrics: Sequence[str] = METRICS) -> bytes:
    """Return lines `name{labels} value time`, tick by tick as scrapes would come; `values` as signals.in_units has them."""
    sets = [",".join(f'{name}="{value}"' for name, value in labels(host, i).items()) for i in range(values.shape[1])]
    series = [f"{metric}{{{each}}} " for metric in metrics for each in sets]
    flat = values.reshape(len(series), len(times_ms))
    return "".join(
        f"{name}{value!r} {at}\n"
        for at, column in zip(times_ms, flat.T.tolist(), strict=True)
        for name, value in zip(series, column, strict=True)
    ).encode()


def json_body(host: str, times_ms: Sequence[int], values: Floats, metrics: Sequence[str] = METRICS) -> bytes:
    """Return one line a series with all its values."""
    lines = [
        json.dumps(
            {"metric": {"__name__": metric, **labels(host, i)}, "values": row, "timestamps": list(times_ms)},
            separators=(",", ":"),
        )
        for metric, by_gpu in zip(metrics, values.tolist(), strict=True)
        for i, row in enumerate(by_gpu)
    ]
    return "\n".join(lines).encode()


def send(peer: Peer, path: str, bodies: Sequence[bytes]) -> None:
    """Post the bodies one after another on one connection."""
    connection = peer.connect()
    for body in bodies:
        connection.request("POST", path, body)
        answered(connection, path)
    connection.close()


def merged_bytes(peer: Peer) -> int:
    """Return the size of its data, all parts of a month merged into one: the best that its disk format does."""
    peer.get("/internal/force_flush")
    peer.get("/internal/force_merge")
    deadline, before = time.monotonic() + _MERGE_SECONDS, -1
    while time.monotonic() < deadline:
        time.sleep(_SETTLE_SECONDS)
        size = peer.data_bytes()
        if size == before and b"vm_active_force_merges 0" in peer.get("/metrics"):
            return size
        before = size
    raise BenchFailed(f"{PROGRAM} did not end its merge within {_MERGE_SECONDS:g} s")


def query_path(query: str, start_ms: int, end_ms: int, step_seconds: float, *, is_cached: bool = False) -> str:
    """Return a range query; without its cache of results each asks the storage, as a first look at a page does."""
    asked = {"query": query, "start": start_ms / 1000, "end": end_ms / 1000, "step": f"{step_seconds:g}s"}
    return "/api/v1/query_range?" + urlencode(asked if is_cached else asked | {"nocache": "1"})
