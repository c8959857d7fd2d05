"""How long questions take over HTTP, beside VictoriaMetrics and Prometheus, and what a day takes on the disk.

The sides take turns with the same questions, each on a connection that stays open, bodies uncompressed; every request asks for
another window. All ask for steps of the same width. The store answers a fleet's day from the minute rollups of the group, an
hour of one GPU from its samples, and a host's page from rollups (mean, least and most of each step, where its peer is asked
for the mean alone). VictoriaMetrics is asked without its cache of results, as a first look at a page is.

STEPWATT_BENCH_QUERY_PARTS names the parts that run (fleet, host, month, energy), where not all shall.
"""

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlencode

from telemetry.bench import energy, parts, query_data, victoria
from telemetry.bench.figure import BenchFailed, Figure
from telemetry.bench.peer import Peer, answered
from telemetry.bench.query_data import DAY_MS, HOST, HOUR_MS, MONTH, PAGE_METRICS, UTILISATION
from telemetry.bench.query_sides import Sides, sides
from telemetry.bench.signals import GPUS_PER_HOST, METRICS

N_REQUESTS = 24
TIMES_FLEET, TIMES_FLEET_PROMETHEUS, TIMES_GPU, TIMES_PAGE = 0.25, 0.1, 0.7, 0.7
TIMES_RAW, TIMES_ALL = 1.0, 1.15
_DAY_STEP, _MONTH_STEP = 600, 14_400  # seconds: what the host's page takes for a day and for 30 days
_CLOSED_SECONDS = 1200  # an hour is compacted some minutes after its end
_MINUTE_MS, _MONTH_MS = 60_000, 30 * DAY_MS
_MOST_DIFFERENCE = 1e-6
_PAGE = f"one host's page ({GPUS_PER_HOST} GPUs, {len(PAGE_METRICS)} metrics)"

Ask = Callable[[int], str]  # from the number of the request to its path


@dataclass(frozen=True, slots=True)
class Times:
    median_ms: float
    p95_ms: float


def run() -> list[Figure]:
    """Return the figures. Raises BenchFailed."""
    end_ms = int((time.time() - _CLOSED_SECONDS) * 1000) // HOUR_MS * HOUR_MS
    found = {"fleet": _of_fleet, "host": _of_host, "month": _of_month, "energy": energy.run}
    asked = parts.chosen("STEPWATT_BENCH_QUERY_PARTS", {name: partial(part, end_ms) for name, part in found.items()})
    with tempfile.TemporaryDirectory(prefix="stepwatt-bench-") as directory:
        return [figure for name, part in asked.items() for figure in part(Path(directory) / name)]


def _of_fleet(end_ms: int, directory: Path) -> list[Figure]:
    hosts = [f"fleet-{n:03}" for n in range(query_data.FLEET_HOSTS)]
    with sides(directory, hosts, query_data.fleet(end_ms), with_prometheus=True) as found:
        window = partial(_window, end_ms, DAY_MS, _MINUTE_MS)
        query = partial(_range_query, f"avg({UTILISATION})", window, 60)
        own = partial(_own_series, "/api/v1/fleet/series", [UTILISATION], window, 1500)
        _check_mean(found, own(0), query(0))
        times = _take_turns(found, own, query)
    name = f"mean utilisation of {query_data.FLEET_HOSTS * GPUS_PER_HOST:,} GPUs over 24 h at 1 min"
    return [
        *_beside(name, times, "VictoriaMetrics", TIMES_FLEET),
        *_beside(name, times, "Prometheus", TIMES_FLEET_PROMETHEUS),
    ]


def _of_host(end_ms: int, directory: Path) -> list[Figure]:
    with sides(directory, [HOST], query_data.host(end_ms), with_prometheus=False) as found:
        hour = partial(_window, end_ms, HOUR_MS, 7000)
        own = partial(_own_series, f"/api/v1/devices/GPU-{HOST}-3/series", METRICS, hour, 3700)
        query = partial(_range_query, f'{{uuid="GPU-{HOST}-3"}}', hour, 1)
        _check_hour(found, own(0), query(0))
        gpu = _take_turns(found, own, query)
        day = partial(_window, end_ms, DAY_MS, _MINUTE_MS)
        page = _take_turns(found, partial(_own_page, HOST, day), _page_query(HOST, day, _DAY_STEP))
        disk = _of_disk(found)
    return [
        *_beside(f"one GPU, 1 h at 1 s, {len(METRICS)} metrics", gpu, "VictoriaMetrics", TIMES_GPU),
        *_beside(f"{_PAGE}, 24 h", page, "VictoriaMetrics", TIMES_PAGE),
        *disk,
    ]


def _of_month(end_ms: int, directory: Path) -> list[Figure]:
    with sides(directory, [MONTH], query_data.month(end_ms), with_prometheus=False) as found:
        month = partial(_window, end_ms, _MONTH_MS, 30 * _MINUTE_MS)
        page = _take_turns(found, partial(_own_page, MONTH, month), _page_query(MONTH, month, _MONTH_STEP))
    return _beside(f"{_PAGE}, 30 d", page, "VictoriaMetrics", TIMES_PAGE)


# What is asked -----------------------------------------------------------------------------------------------------


def _window(end_ms: int, span_ms: int, shift_ms: int, number: int) -> tuple[int, int]:
    """Return (start_ms, end_ms) of a request: each asks for a little earlier than the one before."""
    until_ms = end_ms - number * shift_ms
    return until_ms - span_ms, until_ms


def _own_series(
    path: str, metrics: Sequence[str], window: Callable[[int], tuple[int, int]], points: int, n: int
) -> str:
    start_ms, end_ms = window(n)
    asked = [("metric", metric) for metric in metrics]
    return f"{path}?" + urlencode([*asked, ("start", start_ms), ("end", end_ms), ("points", points)])


def _own_page(host: str, window: Callable[[int], tuple[int, int]], n: int) -> str:
    start_ms, end_ms = window(n)
    asked = [("metric", metric) for metric in PAGE_METRICS]
    return f"/hosts/{host}/arrays/?" + urlencode([*asked, ("from", start_ms), ("to", end_ms)])


def _range_query(query: str, window: Callable[[int], tuple[int, int]], step_seconds: int, n: int) -> str:
    """Return the path for n; both ends of a range query count, so that the last step ends where ours does."""
    start_ms, end_ms = window(n)
    return victoria.query_path(query, start_ms, end_ms - 1000 * step_seconds, step_seconds)


def _page_query(host: str, window: Callable[[int], tuple[int, int]], step_seconds: int) -> Ask:
    """Return what asks for all of the page's metrics in one query: six of them would cost the peer more."""
    names = "|".join(PAGE_METRICS)
    query = f'avg_over_time({{__name__=~"{names}",host="{host}"}}[{step_seconds}s]) keep_metric_names'
    return partial(_range_query, query, window, step_seconds)


# The asking --------------------------------------------------------------------------------------------------------


def _take_turns(found: Sides, own: Ask, query: Ask) -> dict[str, Times]:
    """Return each side's times over N_REQUESTS; before them each has answered once."""
    asks: dict[str, tuple[Peer, Ask, dict[str, str]]] = {"": (found.web, own, _authorised(found))}
    asks |= {"VictoriaMetrics": (found.victoria, query, {})} if found.victoria else {}
    asks |= {"Prometheus": (found.prometheus, query, {})} if found.prometheus else {}
    connections = {side: peer.connect() for side, (peer, _, _) in asks.items()}
    seconds: dict[str, list[float]] = {side: [] for side in asks}
    for number in range(-1, N_REQUESTS):
        for side, (_, ask, headers) in asks.items():
            took = _timed(connections[side], ask(number % N_REQUESTS), headers)
            if number >= 0:
                seconds[side].append(took)
    for connection in connections.values():
        connection.close()
    return {side: _times(each) for side, each in seconds.items()}


def _timed(connection: HTTPConnection, path: str, headers: dict[str, str]) -> float:
    began = time.perf_counter()
    connection.request("GET", path, headers=headers)
    answered(connection, path)
    return time.perf_counter() - began


def _authorised(found: Sides) -> dict[str, str]:
    return {"Authorization": f"Bearer {found.token}"}


def _times(seconds: Sequence[float]) -> Times:
    ordered = sorted(seconds)
    return Times(1000 * median(ordered), 1000 * ordered[ceil(0.95 * len(ordered)) - 1])


def _check_mean(found: Sides, own: str, query: str) -> None:
    """Raise BenchFailed where the sides do not answer the same: a fast answer to another question is no figure."""
    if found.victoria is not None:
        _check_alike("mean", _asked(found, own)["groups"][0]["mean"], _peers(found.victoria, query)[0][1])


def _check_hour(found: Sides, own: str, query: str) -> None:
    """Do the same of each level of a GPU; a counter's growth is no answer of the peer's."""
    if found.victoria is None:
        return
    theirs = dict(_peers(found.victoria, query))
    for name, series in _asked(found, own)["metrics"].items():
        if "mean" in series:
            _check_alike(name, series["mean"], theirs[name])


def _asked(found: Sides, path: str) -> dict[str, Any]:
    connection = found.web.connect()
    connection.request("GET", path, headers=_authorised(found))
    answer: dict[str, Any] = json.loads(answered(connection, path))
    connection.close()
    return answer


def _peers(peer: Peer, query: str) -> list[tuple[str, list[float]]]:
    """Return the series of the peer's answer, with their names."""
    found = json.loads(peer.get(query))["data"]["result"]
    return [(each["metric"].get("__name__", ""), [float(value) for _, value in each["values"]]) for each in found]


def _check_alike(what: str, ours: Sequence[float | None], theirs: Sequence[float]) -> None:
    known = [value for value in ours if value is not None]
    if len(ours) != len(theirs) or len(known) != len(ours):
        raise BenchFailed(
            f"{what}: the store answers {len(ours)} steps, {len(ours) - len(known)} empty; its peer {len(theirs)}"
        )
    apart = (abs(one - other) / max(1.0, abs(other)) for one, other in zip(known, theirs, strict=True))
    if (worst := max(apart)) > _MOST_DIFFERENCE:
        raise BenchFailed(f"{what}: the store's answer differs from its peer's by up to {worst:g}")


# The figures -------------------------------------------------------------------------------------------------------


def _beside(name: str, times: dict[str, Times], peer: str, most: float) -> list[Figure]:
    own, other = times[""], times.get(peer)
    met = own.median_ms <= most * other.median_ms if other else None
    return [
        Figure(f"{name}, median", own.median_ms, "ms", peer, other.median_ms if other else None,
               f"at most {most:g} × its peer's", met),
        Figure(f"{name}, p95", own.p95_ms, "ms", peer, other.p95_ms if other else None),
    ]  # fmt: skip


def _of_disk(found: Sides) -> list[Figure]:
    """Return bytes per value of the host's day at 1 Hz; both sides have merged what they could."""
    n_values, sizes = found.server.calls("n_values"), found.server.calls("table_bytes")
    theirs = victoria.merged_bytes(found.victoria) / n_values if found.victoria else None
    name, unit = "disk after compaction", "bytes per value"
    raw, both = sizes["raw"] / n_values, (sizes["raw"] + sizes["rolled"]) / n_values
    return [
        Figure(f"{name}, samples", raw, unit, "VictoriaMetrics, merged", theirs, f"at most {TIMES_RAW:g} × its peer's",
               None if theirs is None else raw <= TIMES_RAW * theirs),
        Figure(f"{name}, samples and all rollups", both, unit, "VictoriaMetrics, merged", theirs,
               f"at most {TIMES_ALL:g} × its peer's", None if theirs is None else both <= TIMES_ALL * theirs),
    ]  # fmt: skip
