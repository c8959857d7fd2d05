"""What the live updates of 200 open tabs on the fleet page cost the web server. Called by bench/pages.py.

Each tab asks as static/js/fresh.js and pages/fleet.js do: the same addresses as often, with the ETag that it has. Tabs were
opened at different moments; some threads do the asking, which costs the server nothing.
"""

import heapq
import time
from dataclasses import dataclass, field
from threading import Thread

from telemetry.bench.figure import BenchFailed, Figure
from telemetry.bench.logins import p95
from telemetry.bench.peer import Peer

N_TABS = 200
_THREADS, _SECONDS, _WARM_SECONDS = 8, 30.0, 5.0
_FRAGMENT = {"HX-Request": "true"}
_DATA = {"Accept": "application/json"}


@dataclass(slots=True)
class _Asked:
    """An address that a tab asks for each so many seconds."""

    path: str
    every_seconds: float
    headers: dict[str, str]
    etag: str = ""


@dataclass
class _Turn:
    """Some of the tabs, one after the other on a kept connection; `seconds` are how long the answers took."""

    web: Peer
    session: str
    waiting: list[tuple[float, int, _Asked]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    failure: str = ""

    def run(self, counts_from: float, ends_at: float) -> None:
        connection = self.web.connect()
        while self.waiting[0][0] < ends_at:
            at, number, asked = heapq.heappop(self.waiting)
            time.sleep(max(0.0, at - time.monotonic()))
            began = time.perf_counter()
            known = {"If-None-Match": asked.etag} if asked.etag else {}
            own = {"Cookie": f"sessionid={self.session}", "Accept-Encoding": "gzip"}
            connection.request("GET", asked.path, headers=asked.headers | known | own)
            answer = connection.getresponse()
            answer.read()
            if answer.status not in {200, 304}:
                self.failure = f"{asked.path} answered {answer.status}"
                break
            asked.etag = answer.headers.get("ETag", "")
            if time.monotonic() > counts_from:
                self.seconds.append(time.perf_counter() - began)
            heapq.heappush(self.waiting, (max(at, time.monotonic() - 1) + asked.every_seconds, number, asked))
        connection.close()


def run(web: Peer, session: str, page: str, size: str) -> list[Figure]:
    """Return the figures of so many tabs on `page`. Raises BenchFailed."""
    turns = [_Turn(web, session) for _ in range(_THREADS)]
    now = time.monotonic()
    for tab in range(N_TABS):
        for place, asked in enumerate(_of_tab(page)):
            first = now + asked.every_seconds * ((tab / N_TABS + place * 0.37) % 1)
            heapq.heappush(turns[tab % _THREADS].waiting, (first, tab * 100 + place, asked))
    counts_from = now + _WARM_SECONDS
    threads = [Thread(target=turn.run, args=(counts_from, counts_from + _SECONDS)) for turn in turns]
    for thread in threads:
        thread.start()
    time.sleep(max(0.0, counts_from - time.monotonic()))
    before = web.cpu_seconds()
    for thread in threads:
        thread.join()
    used = (web.cpu_seconds() - before) / (time.monotonic() - counts_from)
    if failures := [turn.failure for turn in turns if turn.failure]:
        raise BenchFailed(failures[0])
    taken = [1000 * seconds for turn in turns for seconds in turn.seconds]
    return [
        Figure(f"{N_TABS} open tabs, {size}: web server, CPU seconds per second", used, "s/s"),
        Figure(f"{N_TABS} open tabs, {size}: requests per second", len(taken) / _SECONDS, "1/s"),
        Figure(f"{N_TABS} open tabs, {size}: answer p95", p95(taken), "ms"),
    ]


def _of_tab(page: str) -> list[_Asked]:
    return [
        _Asked(page, 5, _FRAGMENT),
        _Asked("/fleet/map/", 5, _DATA),
        _Asked(f"/fleet/arrays/{page.removeprefix('/')}", 10, _DATA),
        _Asked("/runs/headlines/", 20, _FRAGMENT),
        _Asked("/fleet/agents/", 20, _FRAGMENT),
        _Asked("/reference/recent/", 20, _FRAGMENT),
        _Asked("/fleet/energy/", 60, _FRAGMENT),
        _Asked("/reference/standing/", 60, _DATA),
    ]
