"""How quick the pages are, on the server and in a browser, with 200 GPUs and with 10,000 over 30 days. Run by `bench pages`.

Each part has a server of its own on seeded data (pages_store.py). While it is measured, new readings come in: each host's every
five seconds, as agents send them. The server's time is that of the whole page over HTTP on an open connection; the fleet page's
bound holds for the other pages that speak of the whole fleet, too.

STEPWATT_BENCH_PAGES_PARTS names the parts that run (small, large, charts), where not all shall.
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from threading import Event, Thread

from telemetry.bench import parts, tabs
from telemetry.bench.browser import Chromium, chromium
from telemetry.bench.figure import BenchFailed, Figure
from telemetry.bench.logins import p95
from telemetry.bench.own_server import Calls, own_server
from telemetry.bench.pages_store import ANY_MODEL, name
from telemetry.bench.peer import Peer, answered

N_REQUESTS, N_LOADS, N_TICKS, TICK_SECONDS = 60, 5, 15, 2.0
N_OTHERS = 20
OTHERS = (
    "/hosts/", "/hosts/?sort=-job", "/power/?range=30d", "/efficiency/?range=30d",
    "/efficiency/hosts/", "/fleet/devices/", "/events/", "/events/?state=firing", "/runs/", "/reference/", "/reference/matrix/",
    "/reference/standing/", "/reference/?view=launch", f"/reference/?view=launch&by=selection&model={ANY_MODEL}",
    "/search/?q=gpu", f"/hosts/{name(0)}/", "/settings/",
)  # fmt: skip
N_ENDED, N_RUNNING = 40, 5  # runs of eight devices beside 200 GPUs; ten times as many beside 10,000
METRICS = ["tensor", "memory", "power", "temperature", "health", "utilisation"]
_HOSTS_SMALL, _HOSTS_LARGE = 25, 1250
_HOURS_SMALL, _EVERY_SECONDS = 3, 60
_TIMES, _TURNS = 10, 5
_TRAINING = "training.bench.pages_calls"  # by name: an upper app's
_PAUSE_SECONDS = 0.25
_PLOTLY = "plotly"
_FIFTH = ("memory_used_bytes",)


@dataclass(frozen=True, slots=True)
class Demands:
    server_ms: float
    paint_ms: float
    redraw_ms: float
    live_ms: float
    kilobytes: float


SMALL, LARGE, CHARTS_MS = Demands(60, 800, 16, 20, 150), Demands(150, 1200, 50, 60, 300), 600


def run() -> list[Figure]:
    """Return the figures. Raises BenchFailed."""
    asked = parts.chosen("STEPWATT_BENCH_PAGES_PARTS", {"small": _small, "large": _large, "charts": _charts})
    with tempfile.TemporaryDirectory(prefix="stepwatt-bench-") as directory:
        return [figure for part, make in asked.items() for figure in make(Path(directory) / part)]


@dataclass(frozen=True, slots=True)
class Stand:
    web: Peer
    calls: Calls
    session: str
    without: tuple[str, ...]

    @contextmanager
    def live(self, n_hosts: int) -> Iterator[None]:
        """Let readings come in as long as the context lasts, a fifth of the hosts' each second. Raises BenchFailed."""
        ending = Event()
        failures: list[BenchFailed] = []

        def go_on() -> None:
            turn = 0
            while not ending.wait(1.0):
                try:
                    self.calls("live", n_hosts, turn % _TURNS, _TURNS, self.without)
                except BenchFailed as error:
                    failures.append(error)
                    return
                turn += 1

        thread = Thread(target=go_on)
        thread.start()
        try:
            yield
        finally:
            ending.set()
            thread.join()
        if failures:
            raise failures[0]


@contextmanager
def _stand(
    directory: Path, n_hosts: int, *steps: tuple[str, list[int]], without: tuple[str, ...] = (), times_runs: int = 0
) -> Iterator[Stand]:
    """Yield a server with the hosts' newest state in it, `without` these metrics, and what the steps put there.

    With runs, N_ENDED and N_RUNNING so many times, every device has reference results, too.
    """
    with ExitStack() as stack:
        server = stack.enter_context(own_server(directory))
        calls = Calls(server.environment, "telemetry.bench.pages_calls")
        stack.callback(calls.end)
        calls("seed", n_hosts, without)
        for step, arguments in steps:
            calls(step, *arguments)
        if times_runs:
            train = Calls(server.environment, _TRAINING)
            stack.callback(train.end)
            train("results")
            train("runs", N_ENDED * times_runs, N_RUNNING * times_runs)
        yield Stand(server.start_web(), calls, str(calls("session")), without)


def _small(directory: Path) -> list[Figure]:
    with _stand(
        directory, _HOSTS_SMALL, ("samples", [_HOSTS_SMALL, _HOURS_SMALL, _EVERY_SECONDS]), times_runs=1
    ) as stand:
        return _of_fleet(stand, _HOSTS_SMALL, "200 GPUs", SMALL)


def _large(directory: Path) -> list[Figure]:
    with _stand(directory, _HOSTS_LARGE, ("rolled_up", []), times_runs=_TIMES) as stand:
        return _of_fleet(stand, _HOSTS_LARGE, "10,000 GPUs, 30 days", LARGE)


def _of_fleet(stand: Stand, n_hosts: int, size: str, demands: Demands) -> list[Figure]:
    path = "/?range=1h" if n_hosts == _HOSTS_SMALL else "/?range=30d"
    with stand.live(n_hosts), chromium(stand.web, stand.session) as browser:
        server = [1000 * seconds for seconds in _server_seconds(stand, path)]
        paints = [browser.largest_paint_ms(path) for _ in range(N_LOADS)]
        redraws = browser.redraws_ms(path, METRICS, 5)
        ticks = browser.live_ms(path, N_TICKS, TICK_SECONDS)
        size_kb = browser.transferred_bytes(path, _PLOTLY) / 1000
    with stand.live(n_hosts):
        others = {other: p95([1000 * s for s in _server_seconds(stand, other, N_OTHERS)]) for other in OTHERS}
        open_tabs = tabs.run(stand.web, stand.session, path, size)
    return [
        _figure(f"fleet page, {size}: server time p95 of {N_REQUESTS}", p95(server), "ms", demands.server_ms),
        Figure(f"fleet page, {size}: server time median", median(server), "ms"),
        _figure(f"fleet page, {size}: largest contentful paint, cold", median(paints), "ms", demands.paint_ms),
        _figure(f"host map, {size}: redraw on metric change, p95", p95(redraws), "ms", demands.redraw_ms),
        _figure(f"fleet page, {size}: main thread in a live update, p95", p95(ticks), "ms", demands.live_ms),
        _figure(f"fleet page, {size}: first view besides plotly.js", size_kb, "kB", demands.kilobytes),
        *(_figure(f"{other}, {size}: server time p95", ms, "ms", demands.server_ms) for other, ms in others.items()),
        *open_tabs,
    ]


def _server_seconds(stand: Stand, path: str, n: int = N_REQUESTS) -> list[float]:
    connection = stand.web.connect()
    headers = {"Cookie": f"sessionid={stand.session}", "Accept-Encoding": "gzip"}
    try:
        _seconds(connection, path, headers)  # the process's first look reads the whole fleet
        found = []
        for _ in range(n):
            found.append(_seconds(connection, path, headers))
            time.sleep(_PAUSE_SECONDS)
    finally:
        connection.close()
    return found


def _seconds(connection: HTTPConnection, path: str, headers: dict[str, str]) -> float:
    began = time.perf_counter()
    connection.request("GET", path, headers=headers)
    answered(connection, path)
    return time.perf_counter() - began


def _charts(directory: Path) -> list[Figure]:
    """A host's page with four charts of 8 GPUs, an hour at one sample a second; the fifth has no values in these GPUs."""
    path = f"/hosts/{name(0)}/?range=1h&points=3700"  # 3,600 samples stand in so many buckets of a second
    with ExitStack() as stack:
        stand = stack.enter_context(_stand(directory, 1, ("fine", [0, 3600]), ("maintain", []), without=_FIFTH))
        stack.enter_context(stand.live(1))
        painted = _painted(stack.enter_context(chromium(stand.web, stand.session)), path)
    return [_figure("four charts × 8 series × 3,600 points: navigation to painted", painted, "ms", CHARTS_MS)]


def _painted(browser: Chromium, path: str) -> float:
    browser.charts_painted_ms(path)  # the server's first answer reads its templates
    return median(browser.charts_painted_ms(path) for _ in range(N_LOADS))


def _figure(what: str, value: float, unit: str, most: float) -> Figure:
    return Figure(what, value, unit, target=f"at most {most:g} {unit}", met=value <= most)
