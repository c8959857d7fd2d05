"""Scrapes of the whole fleet over HTTP, from the real server: how long they take, and whether pages wait for them.

A server of its own on a temporary directory, with the bench's fleet in its database. Called by bench/metrics.py.
"""

import json
import math
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from statistics import median
from threading import Event, Thread

from fleet.settings import BASE_DIR
from fleet.up.processes import web_command
from telemetry.bench import gpu_fleet
from telemetry.bench.figure import BenchFailed, Figure

PAGE = "/login/"  # a light page: one template
_SCRAPES, _IDLE_SECONDS, _PATIENCE_SECONDS = 6, 6.0, 30.0
_BETWEEN_PAGES_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Scrape:
    first_byte_seconds: float
    seconds: float
    size: int


@dataclass(slots=True)
class Visitor:
    """Somebody who opens the light page again and again, on one connection; `seconds` are how long each took."""

    port: int
    seconds: list[float] = field(default_factory=list)
    _ended: Event = field(default_factory=Event)

    @contextmanager
    def reading(self) -> Iterator[list[float]]:
        """Open the page as long as the block runs; yields the times, filled at its end."""
        self._ended.clear()
        self.seconds = []
        thread = Thread(target=self._open_pages)
        thread.start()
        try:
            yield self.seconds
        finally:
            self._ended.set()
            thread.join()

    def _open_pages(self) -> None:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=_PATIENCE_SECONDS)
        while not self._ended.is_set():
            start = time.perf_counter()
            connection.request("GET", PAGE)
            connection.getresponse().read()
            self.seconds.append(time.perf_counter() - start)
            time.sleep(_BETWEEN_PAGES_SECONDS)
        connection.close()


def run() -> list[Figure]:
    """Return the figures. Raises BenchFailed."""
    with tempfile.TemporaryDirectory(prefix="stepwatt-bench-") as directory:
        token = _in_server(directory, "print(seeded.seed())").strip()
        read, unchanged = json.loads(_in_server(directory, "print(list(seeded.seconds_to_read()))"))
        with _web(directory) as port:
            _scrape(port, token)  # the first makes all templates
            visitor = Visitor(port)
            with visitor.reading() as idle:
                time.sleep(_IDLE_SECONDS)
            scrapes, busy = _scrapes(directory, port, token, visitor)
            same = _scrape(port, token)
            one = _scrape(port, token, "&host=gpu-0007")
    return [
        _figure("reading and parsing the database, all hosts changed", read * 1000),
        _figure("reading the database, nothing changed", unchanged * 1000),
        _figure("HTTP, gzip, own names, all hosts changed, first byte", 1000 * median(s.first_byte_seconds for s in scrapes)),
        _figure("HTTP, gzip, own names, all hosts changed, whole body", 1000 * median(s.seconds for s in scrapes)),
        _figure("HTTP, gzip, own names, nothing changed, whole body", 1000 * same.seconds),
        _figure("HTTP, own names, one host", 1000 * one.seconds),
        _figure("body, gzip", scrapes[-1].size / 1e6, "MB"),
        _figure(f"{PAGE} with no scrape, p95", 1000 * _p95(idle)),
        _figure(f"{PAGE} during scrapes, p95", 1000 * _p95(busy)),
    ]  # fmt: skip


def _scrapes(directory: str, port: int, token: str, visitor: Visitor) -> tuple[list[Scrape], list[float]]:
    """Scrape after each round of new readings; returns the scrapes, and the times of pages that were opened meanwhile."""
    found, pages = [], []
    for _ in range(_SCRAPES):
        _in_server(directory, "seeded.touch()")
        with visitor.reading() as seconds:
            found.append(_scrape(port, token))
        pages += seconds
    return found, pages


def _scrape(port: int, token: str, query: str = "") -> Scrape:
    connection = HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_SECONDS)
    headers = {"Authorization": f"Bearer {token}", "Accept-Encoding": "gzip"}
    start = time.perf_counter()
    connection.request("GET", f"/metrics?names=stepwatt{query}", headers=headers)
    answer = connection.getresponse()
    first_byte = time.perf_counter()
    body = answer.read()
    end = time.perf_counter()
    connection.close()
    if answer.status != 200:
        raise BenchFailed(f"/metrics answered {answer.status}: {body[:200]!r}")
    return Scrape(first_byte - start, end - start, len(body))


def _in_server(directory: str, code: str) -> str:
    """Run some code as the server would on that directory; returns what it printed."""
    command = [sys.executable, "manage.py", "shell", "--verbosity", "0", "--command"]
    done = subprocess.run(
        [*command, f"from telemetry.bench import seeded; {code}"],
        cwd=BASE_DIR, env=_environment(directory), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise BenchFailed(f"{code}: {done.stderr[-500:]}")
    return done.stdout


@contextmanager
def _web(directory: str) -> Iterator[int]:
    """Run the web server alone; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    process = subprocess.Popen(web_command("127.0.0.1", port), cwd=BASE_DIR, env=_environment(directory))
    try:
        _wait_for(port)
        yield port
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise BenchFailed(f"the web server did not listen within {_PATIENCE_SECONDS:g} s")


def _environment(directory: str) -> dict[str, str]:
    others = {name: value for name, value in os.environ.items() if not name.startswith("STEPWATT_")}
    return others | {"STEPWATT_DATA_DIR": directory, "DJANGO_SETTINGS_MODULE": "fleet.settings"}


def _p95(seconds: Sequence[float]) -> float:
    return sorted(seconds)[math.ceil(0.95 * len(seconds)) - 1]


def _figure(name: str, value: float, unit: str = "ms") -> Figure:
    return Figure(name=f"scrape, {gpu_fleet.size()}, {name}", value=value, unit=unit)
