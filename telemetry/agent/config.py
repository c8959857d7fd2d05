"""The agent's settings, read once at start from its arguments and `STEPWATT_…` variables. No Django.

Bad values end the start with one line that names the variable (ConfigInvalid).
"""

import os
import re
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from telemetry.wire import HOST_NAME

BROKER_SCHEMES = ("redis", "rediss", "amqp", "amqps")
_SLOWEST_BATCH_SECONDS = 10.0  # the server calls a host silent after 30 s: a lost message or two must not do that
_SOCKET_PATH_LIMIT = 107  # sun_path of a Unix socket address


class ConfigInvalid(Exception):
    """A setting cannot be used; the message names it and what is expected."""


@dataclass(frozen=True, slots=True)
class AgentConfig:
    host: str
    broker_url: str
    directory: Path
    socket_path: Path
    sample_seconds: float
    batch_seconds: float
    job_python: str


def read_config(env: Mapping[str, str], *, name: str = "") -> AgentConfig:
    """Return the settings; makes the agent's directory (0700). Raises ConfigInvalid."""
    directory = _directory(Path(env.get("STEPWATT_DATA_DIR") or "var").resolve() / "agent")
    sample_seconds = _number(env, "STEPWATT_SAMPLE_SECONDS", 1.0, 0.1, 10.0)
    return AgentConfig(
        host=_host_name(name or re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())),
        broker_url=_broker_url(env),
        directory=directory,
        socket_path=_socket_path(env, directory),
        sample_seconds=sample_seconds,
        batch_seconds=_number(env, "STEPWATT_BATCH_SECONDS", 5.0, sample_seconds, _SLOWEST_BATCH_SECONDS),
        job_python=env.get("STEPWATT_JOB_PYTHON") or sys.executable,
    )


def _directory(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigInvalid(f"STEPWATT_DATA_DIR: {path} cannot be made ({error.strerror})") from error
    if not os.access(path, os.W_OK):
        raise ConfigInvalid(f"STEPWATT_DATA_DIR: {path} cannot be written")
    return path


def _host_name(name: str) -> str:
    if not HOST_NAME.fullmatch(name):
        raise ConfigInvalid(f"--name {name!r}: expected letters, digits, dot, dash or underscore, at most 63")
    return name


def _broker_url(env: Mapping[str, str]) -> str:
    url = env.get("STEPWATT_BROKER_URL", "")
    file = env.get("STEPWATT_BROKER_URL_FILE")
    if file:
        try:
            url = Path(file).read_text().strip()
        except OSError as error:
            raise ConfigInvalid(f"STEPWATT_BROKER_URL_FILE={file}: cannot be read ({error.strerror})") from error
    if url.partition("://")[0] not in BROKER_SCHEMES:
        raise ConfigInvalid(f"STEPWATT_BROKER_URL: expected a URL that begins with {', '.join(BROKER_SCHEMES)}")
    return url


def _socket_path(env: Mapping[str, str], directory: Path) -> Path:
    path = Path(env.get("STEPWATT_SOCKET") or directory / "steps.sock")
    if len(os.fsencode(path)) > _SOCKET_PATH_LIMIT:
        raise ConfigInvalid(
            f"STEPWATT_SOCKET={path}: a socket's path may have {_SOCKET_PATH_LIMIT} bytes; choose a shorter one"
        )
    return path


def _number(env: Mapping[str, str], name: str, default: float, minimum: float, maximum: float) -> float:
    raw = env.get(name) or str(default)
    try:
        value = float(raw)
    except ValueError:
        value = float("nan")
    if not minimum <= value <= maximum:
        raise ConfigInvalid(f"{name}={raw!r}: expected a number from {minimum:g} to {maximum:g}")
    return value
