"""A peer's server on a private port with a directory of its own, for as long as a bench needs it. Called by the benches.

Nothing is asked of an installed service: the program is started by the bench and ended by its process id.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from socket import create_server

from telemetry.bench.figure import BenchFailed
from telemetry.bench.process_cost import tree_cpu_seconds

_START_SECONDS, _STOP_SECONDS, _ANSWER_SECONDS = 30.0, 30.0, 300.0


@dataclass(frozen=True, slots=True)
class Peer:
    """A running server. `data` is the directory in which it keeps what it was given."""

    name: str
    port: int
    pid: int
    data: Path

    def cpu_seconds(self) -> float:
        return tree_cpu_seconds(self.pid)

    def connect(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=_ANSWER_SECONDS)

    def get(self, path: str) -> bytes:
        """Return the answer's body. Raises BenchFailed where it is an error."""
        connection = self.connect()
        try:
            connection.request("GET", path)
            return answered(connection, path)
        finally:
            connection.close()

    def data_bytes(self) -> int:
        """Return what lies in its directory, files that vanish meanwhile left out."""
        return directory_bytes(self.data)


def answered(connection: HTTPConnection, what: str) -> bytes:
    """Return the body of the answer that is due. Raises BenchFailed where it is an error."""
    answer = connection.getresponse()
    body = answer.read()
    if answer.status >= 400:
        raise BenchFailed(f"{what} answered {answer.status}: {body[:300]!r}")
    return body


def free_port() -> int:
    with create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def is_installed(program: str) -> bool:
    return shutil.which(program) is not None


@contextmanager
def running(program: str, arguments: Sequence[str], port: int, data: Path, ready_path: str) -> Iterator[Peer]:
    """Yield the server once `ready_path` is answered with 200. Raises BenchFailed."""
    path = shutil.which(program)
    if path is None:
        raise BenchFailed(f"{program} is not installed")
    log = data.with_name(f"{data.name}.log")
    with log.open("wb") as output:
        process = subprocess.Popen([path, *arguments], stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    try:
        peer = Peer(program, port, process.pid, data)
        _wait_for(peer, process, ready_path, log)
        yield peer
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(peer: Peer, process: "subprocess.Popen[bytes]", ready_path: str, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            peer.get(ready_path)
        except (OSError, HTTPException, BenchFailed):
            time.sleep(0.1)
        else:
            return
    raise BenchFailed(f"{peer.name} does not answer; it said: {log.read_text(errors='replace')[-500:]}")


def directory_bytes(directory: Path) -> int:
    total = 0
    for folder, _, files in os.walk(directory):
        for file in files:
            try:
                total += (Path(folder) / file).stat().st_size
            except FileNotFoundError:  # merged away meanwhile
                continue
    return total
