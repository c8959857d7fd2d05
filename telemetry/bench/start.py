"""How long a start takes until the pages are served and a sample is stored: the real `manage.py up`, in its own directory."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException

from fleet.settings import BASE_DIR
from telemetry.bench.figure import BenchFailed, Figure

MOST_SECONDS_TO_SERVE, MOST_SECONDS_TO_SAMPLE = 8.0, 15.0
_PATIENCE_SECONDS, _POLL_SECONDS = 90.0, 0.05


def run() -> list[Figure]:
    """Return the times of a second start, when the database and the secrets are there. Raises BenchFailed."""
    with tempfile.TemporaryDirectory(prefix="stepwatt-bench-") as directory:
        with _up(directory) as port:
            _seconds_until_stored(port, time.monotonic())
        begun = time.monotonic()
        with _up(directory) as port:
            to_serve = _seconds_until_served(port, begun)
            to_sample = _seconds_until_stored(port, begun)
    return [
        _figure("second start, until the pages are served", to_serve, MOST_SECONDS_TO_SERVE),
        _figure("second start, until its first sample is stored", to_sample, MOST_SECONDS_TO_SAMPLE),
    ]


def _figure(name: str, seconds: float, most: float) -> Figure:
    return Figure(name=name, value=seconds, unit="s", target=f"at most {most:g}", met=seconds <= most)


@contextmanager
def _up(directory: str) -> Iterator[int]:
    """Run the product; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    own = {"STEPWATT_DATA_DIR": directory, "STEPWATT_BIND": f"127.0.0.1:{port}"}
    others = {name: value for name, value in os.environ.items() if not name.startswith("STEPWATT_")}
    process = subprocess.Popen(
        [sys.executable, "manage.py", "up"], cwd=BASE_DIR, env=others | own, stdout=subprocess.DEVNULL
    )
    try:
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _seconds_until_served(port: int, begun: float) -> float:
    return _seconds_until(lambda: _get(port, "/healthz") is not None, begun)


def _seconds_until_stored(port: int, begun: float) -> float:
    """A sample that is younger than this start was taken by it."""

    def is_stored() -> bool:
        lag = (_get(port, "/readyz") or {}).get("ingest_lag_seconds")
        return isinstance(lag, int | float) and lag < time.monotonic() - begun

    return _seconds_until(is_stored, begun)


def _seconds_until(condition: Callable[[], bool], begun: float) -> float:
    while not condition():
        if time.monotonic() - begun > _PATIENCE_SECONDS:
            raise BenchFailed(f"nothing came within {_PATIENCE_SECONDS:g} s; run `manage.py up` by hand to see why")
        time.sleep(_POLL_SECONDS)
    return time.monotonic() - begun


def _get(port: int, path: str) -> dict[str, object] | None:
    """Return the JSON answer, None where nobody answers yet."""
    connection = HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        answer: dict[str, object] = json.loads(connection.getresponse().read())
    except (OSError, HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return answer
