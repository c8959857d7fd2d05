"""The whole product as `manage.py up` starts it, on a directory of its own, and what each of its processes uses."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from fleet.settings import BASE_DIR
from telemetry.bench.figure import BenchFailed
from telemetry.bench.own_server import answers, environment, wait_until
from telemetry.bench.peer import Peer, free_port
from telemetry.bench.process_cost import cpu_seconds_of, resident_bytes, tree_cpu_seconds, tree_resident_bytes

_START_SECONDS, _STOP_SECONDS = 120.0, 30.0
_WORKER_SUFFIX = "@%h"  # of the name that a worker is started with
# By an argument of another child's command. The agent of this machine is none of the server's processes.
_MARKS = {"telemetry.agent": "", "uvicorn": "web", "beat": "beat"}


@dataclass(frozen=True, slots=True)
class Up:
    """`pids` are those of the server's processes, the supervisor among them, by what they are."""

    web: Peer
    pids: dict[str, int]

    def cpu_seconds(self) -> dict[str, float]:
        """Return the CPU time by process. Raises BenchFailed where one has ended."""
        return {name: _cpu_seconds(name, pid) for name, pid in self.pids.items()}

    def resident_bytes(self) -> int:
        return sum(_resident_bytes(name, pid) for name, pid in self.pids.items())


@contextmanager
def server_up(directory: Path) -> Iterator[Up]:
    """Yield the running server. Raises BenchFailed."""
    port, log = free_port(), directory.with_name(f"{directory.name}-up.log")
    own = environment(directory) | {"STEPWATT_BIND": f"127.0.0.1:{port}"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "up"], cwd=BASE_DIR, env=own, stdout=output, stderr=output
        )
    web = Peer("web", port, process.pid, directory)
    try:
        wait_until(lambda: answers(web), _START_SECONDS, "the server")
        yield Up(web, _pids(process.pid))
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _pids(top: int) -> dict[str, int]:
    """Return the processes by name. Raises BenchFailed where one is unknown: its cost would be missing."""
    found = {"supervisor": top}
    for child in psutil.Process(top).children():
        arguments = child.cmdline()
        names = [name for mark, name in _MARKS.items() if mark in arguments]
        names += [each.removesuffix(_WORKER_SUFFIX) for each in arguments if each.endswith(_WORKER_SUFFIX)]
        names += ["broker"] if child.name().endswith("-server") else []  # it writes over its arguments
        if not names:
            raise BenchFailed(f"`manage.py up` has a child that the bench does not know: {' '.join(arguments)}")
        found |= {name: child.pid for name in names if name}
    return found


def _cpu_seconds(name: str, pid: int) -> float:
    return cpu_seconds_of(pid) if name == "supervisor" else tree_cpu_seconds(pid)


def _resident_bytes(name: str, pid: int) -> int:
    try:
        return resident_bytes(pid) if name == "supervisor" else tree_resident_bytes(pid)
    except OSError as error:
        raise BenchFailed(f"{name} ended ({error.strerror})") from error
