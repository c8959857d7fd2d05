"""What a stopped run has left behind, found by its directory's path: nobody else has to do with that."""

import time
from collections.abc import Callable
from pathlib import Path

import psutil


def wait_until(condition: Callable[[], bool], within_seconds: float, what: str = "the condition") -> None:
    """Return once the condition holds; fails after `within_seconds`."""
    deadline = time.monotonic() + within_seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true within {within_seconds:g} s"
        time.sleep(0.05)


def processes_of(directory: Path) -> list[str]:
    """Return `pid command` of each process whose directory, command or environment names the directory."""
    return [
        f"{process.pid} {' '.join(process.info['cmdline'] or [])}"
        for process in psutil.process_iter(["cmdline", "cwd", "environ", "status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE and _names(process.info, str(directory))
    ]


def _names(info: dict, text: str) -> bool:
    values = [info["cwd"] or "", *(info["cmdline"] or []), *(info["environ"] or {}).values()]
    return any(text in value for value in values)


def listening_ports(pids: set[int] | None = None) -> set[int]:
    """Return the TCP ports on which these processes listen; without `pids`, on which anybody does."""
    return {
        connection.laddr.port
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and (pids is None or connection.pid in pids)
    }
