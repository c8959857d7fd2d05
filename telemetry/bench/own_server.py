"""The product's own processes on a private directory and private ports: broker, ingest workers, web. Called by the benches."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from redis import Redis

from fleet.settings import BASE_DIR, embedded_broker_url
from fleet.up import broker
from fleet.up.processes import server_children, web_command
from telemetry.bench.figure import BenchFailed
from telemetry.bench.peer import Peer, free_port
from telemetry.bench.process_cost import tree_cpu_seconds
from telemetry.message.wire import INGEST_QUEUE

_START_SECONDS, _STOP_SECONDS, _NO_PROGRESS_SECONDS, _POLL_SECONDS = 60.0, 15.0, 45.0, 0.02
_QUIET_SECONDS, _QUIET_CPU_SECONDS, _LEAST_CPU_SECONDS = 0.5, 0.02, 0.2  # a worker that starts uses a second
_INGEST, _WEB = "ingest", "web"
_ASIDE = 1  # the broker's other database: what waits there no worker takes
_UNACKED = "unacked_index"  # kombu's, of the messages that a worker has taken and not yet acknowledged
_RETENTION = "400d"  # the benches' samples may be old


class Calls:
    """own_store's functions, in a process on the server's directory (own_calls.py), or those of another `module` like it."""

    def __init__(self, environment: dict[str, str], module: str = "telemetry.bench.own_calls") -> None:
        command = [sys.executable, "-m", module]
        self._process = subprocess.Popen(
            command, cwd=BASE_DIR, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._lock = threading.Lock()

    def __call__(self, name: str, *arguments: object) -> Any:
        """Return the function's answer. Raises BenchFailed with what it raised."""
        with self._lock:
            assert self._process.stdin is not None  # noqa: S101 — Popen promises it
            assert self._process.stdout is not None  # noqa: S101
            self._process.stdin.write(json.dumps([name, *arguments]) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        answer = json.loads(line or '{"error": "the process that asks the store ended; what it said stands above"}')
        if "error" in answer:
            raise BenchFailed(answer["error"])
        return answer["answer"]

    def end(self) -> None:
        self._process.communicate()


class Server:
    """Processes that end with the context in which `own_server` yields it. CPU counts those that live."""

    def __init__(self, stack: ExitStack, directory: Path, database_url: str) -> None:
        self._stack, self.directory = stack, directory
        directory.mkdir(exist_ok=True)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.broker_url = self._start_broker()
        self.queue, self._aside = Redis.from_url(self.broker_url), Redis.from_url(self.aside_url)
        stack.callback(self.queue.close)
        stack.callback(self._aside.close)
        self.environment = environment(directory, self.broker_url, database_url)
        self.calls = Calls(self.environment)
        stack.callback(self.calls.end)
        self.calls("create")

    @property
    def pids(self) -> dict[str, int]:
        return {name: process.pid for name, process in self._processes.items()}

    def start_worker(self, name: str = _INGEST) -> None:
        """Start an ingest worker, and wait until it has nothing more to do than to wait."""
        self._start(name, _command(_INGEST))
        self._wait_until_quiet(name)

    def stop(self, name: str) -> None:
        _end(self._processes.pop(name))

    def start_web(self) -> Peer:
        """Start the web server alone; returns it once it answers."""
        port = free_port()
        self._start(_WEB, web_command("127.0.0.1", port))
        web = Peer(_WEB, port, self.pids[_WEB], self.directory)
        wait_until(lambda: answers(web), _START_SECONDS, "the web server")
        return web

    def cpu_seconds(self) -> float:
        return sum(map(tree_cpu_seconds, self.pids.values()))

    @property
    def aside_url(self) -> str:
        """The broker's, for messages that wait until they are released."""
        return urlsplit(self.broker_url)._replace(path=f"/{_ASIDE}").geturl()

    def hold(self, name: str) -> None:
        """Name what was sent to `aside_url`, so that `release` hands it to the ingest workers all at once."""
        self._aside.rename(INGEST_QUEUE, name)

    def release(self, name: str) -> None:
        self._aside.rename(name, INGEST_QUEUE)
        self._aside.move(INGEST_QUEUE, 0)

    def wait_until_taken(self, n: int) -> float:
        """Wait until n batches are accepted in all; returns when, monotonic. Raises BenchFailed where they come to a stand.

        The broker is asked whether anything is left, not the database: its answers would take a fifth of a core from those
        that are measured.
        """
        self._wait_until_empty()
        emptied_at = time.monotonic()
        if self.calls("n_accepted") >= n:
            return emptied_at
        self.wait_for_batches(n)  # one was on its way from the broker to a worker
        return time.monotonic()

    def _wait_until_empty(self) -> None:
        left, deadline = -1, 0.0
        while left:
            before, left = left, self._n_left()
            if left != before:
                deadline = time.monotonic() + _NO_PROGRESS_SECONDS
            elif time.monotonic() > deadline:
                raise BenchFailed(f"{left} messages were not taken from the broker: {self._last_words()}")
            if left:
                time.sleep(_POLL_SECONDS)

    def _n_left(self) -> int:
        with self.queue.pipeline() as both:
            both.llen(INGEST_QUEUE)
            both.zcard(_UNACKED)
            waiting, taken = both.execute()
        return int(waiting) + int(taken)

    def wait_for_batches(self, n: int) -> None:
        """Wait until so many batches are accepted in all. Raises BenchFailed where none comes for a while."""
        accepted, deadline = -1, 0.0
        while accepted < n:
            before, accepted = accepted, self.calls("n_accepted")
            if accepted > before:
                deadline = time.monotonic() + _NO_PROGRESS_SECONDS
            elif time.monotonic() > deadline:
                raise BenchFailed(f"{accepted} of {n} batches were stored, then no more: {self._last_words()}")
            time.sleep(_POLL_SECONDS)

    def _wait_until_quiet(self, name: str) -> None:
        used, before = 0.0, -1.0
        while used - before > _QUIET_CPU_SECONDS or used < _LEAST_CPU_SECONDS:
            time.sleep(_QUIET_SECONDS)
            if self._processes[name].poll() is not None:
                raise BenchFailed(f"{name} ended: {self._last_words()}")
            before, used = used, tree_cpu_seconds(self.pids[name])

    def _last_words(self) -> str:
        logs = [self.directory / f"{name}.log" for name in self.pids if name.startswith(_INGEST)]
        return " ".join(log.read_text(errors="replace")[-400:] for log in logs)

    def _start_broker(self) -> str:
        port_file, password = self.directory / "broker-port", settings.EMBEDDED_BROKER_PASSWORD
        child = broker.embedded_broker(self.directory / "broker", port_file, password)
        self._start("broker", child.argv, dict(child.environment), child.stdin, child.directory)
        wait_until(lambda: broker.answers(port_file, password), _START_SECONDS, "the embedded broker")
        return embedded_broker_url(int(port_file.read_text()))

    def _start(
        self, name: str, argv: tuple[str, ...], own: dict[str, str] | None = None, stdin: bytes = b"",
        directory: Path = BASE_DIR,
    ) -> None:  # fmt: skip
        log = self._stack.enter_context((self.directory / f"{name}.log").open("ab"))
        process = subprocess.Popen(
            argv, cwd=directory, env=own or self.environment, stdin=subprocess.PIPE, stdout=log, stderr=log
        )
        self._stack.callback(_end, process)
        self._processes[name] = process
        assert process.stdin is not None  # noqa: S101 — Popen promises it
        process.stdin.write(stdin)
        process.stdin.close()


@contextmanager
def own_server(directory: Path, database_url: str = "") -> Iterator[Server]:
    """Yield a broker and an empty database; nothing else runs yet. Raises BenchFailed."""
    with ExitStack() as stack:
        yield Server(stack, directory, database_url)


def environment(directory: Path, broker_url: str = "", database_url: str = "") -> dict[str, str]:
    """Return the environment of a server that has nothing of the user's own."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("STEPWATT_")}
    own = {
        "STEPWATT_DATA_DIR": str(directory),
        "STEPWATT_BROKER_URL": broker_url,
        "STEPWATT_DATABASE_URL": database_url,
        "STEPWATT_RETENTION_RAW": _RETENTION,
        "DJANGO_SETTINGS_MODULE": "fleet.settings",
        "PYTHONUNBUFFERED": "1",
    }
    return others | {name: value for name, value in own.items() if value}


def wait_until(condition: Callable[[], bool], within_seconds: float, what: str) -> None:
    """Raises BenchFailed where it does not come true in time."""
    deadline = time.monotonic() + within_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise BenchFailed(f"{what} was not there within {within_seconds:g} s")
        time.sleep(_POLL_SECONDS)


def _command(name: str) -> tuple[str, ...]:
    return next(child.argv for child in server_children("") if child.name == name)


def answers(web: Peer) -> bool:
    """Tell whether the pages are served."""
    try:
        web.get("/healthz")
    except (OSError, HTTPException, BenchFailed):
        return False
    return True


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
