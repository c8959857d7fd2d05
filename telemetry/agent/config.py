"""The agent's settings, read once at start from its membership and `STEPWATT_…` variables. No Django.

Bad values end the start with one line that names the variable (ConfigInvalid).
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from telemetry.agent import membership, spool
from telemetry.agent.invalid import ConfigInvalid
from telemetry.agent.membership import Membership

__all__ = ["AgentConfig", "ConfigInvalid", "agent_directory", "read_config"]

SYSTEM_DIRECTORY = Path("/var/lib/stepwatt")
SYSTEM_SOCKET = Path("/run/stepwatt/steps.sock")
USER_DIRECTORY = Path(".local/share/stepwatt")  # under the home directory
BROKER_SCHEMES = ("redis", "rediss", "amqp", "amqps")
_SLOWEST_BATCH_SECONDS = 10.0  # the server calls a host silent after 30 s: a lost message or two must not do that
_FASTEST_POWER_SECONDS = 0.05  # NVML's own counter is no faster: its boards average power over 20 ms and more
_SMALLEST_SPOOL_BYTES, _LARGEST_SPOOL_BYTES = 2.0**20, 2.0**40
_DAY_SECONDS = 86_400.0
_SOCKET_PATH_LIMIT = 107  # sun_path of a Unix socket address


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """`broker_ca` is a file (PEM) that a rediss:// or amqps:// broker is checked against, "" for the system's authorities.

    `job_address` is the address or the interface by which the ranks of distributed jobs reach this host, "" to find it.
    """

    host: str
    broker_url: str
    broker_ca: str
    server_public_key: bytes
    directory: Path
    socket_path: Path
    sample_seconds: float
    power_seconds: float
    batch_seconds: float
    spool_bytes: int
    spool_seconds: float
    job_python: str
    job_address: str


def agent_directory(env: Mapping[str, str]) -> Path:
    """Return the agent's directory; makes it (0700). Raises ConfigInvalid."""
    data = env.get("STEPWATT_DATA_DIR")
    return _directory(Path(data).resolve() / "agent" if data else _home(env))


def read_config(env: Mapping[str, str]) -> AgentConfig:
    """Return the settings of a host that has joined. Raises NotJoined, ConfigInvalid."""
    directory = agent_directory(env)
    joined = membership.load(directory)
    sample_seconds = _number(env, "STEPWATT_SAMPLE_SECONDS", 1.0, 0.1, 10.0)
    return AgentConfig(
        host=joined.host,
        broker_url=_broker_url(env, joined),
        broker_ca=_broker_ca(env),
        server_public_key=joined.server_public_key,
        directory=directory,
        socket_path=_socket_path(env, directory),
        sample_seconds=sample_seconds,
        power_seconds=_number(env, "STEPWATT_POWER_SECONDS", sample_seconds, _FASTEST_POWER_SECONDS, sample_seconds),
        batch_seconds=_number(env, "STEPWATT_BATCH_SECONDS", 5.0, sample_seconds, _SLOWEST_BATCH_SECONDS),
        spool_bytes=int(
            _number(env, "STEPWATT_SPOOL_BYTES", spool.LIMIT_BYTES, _SMALLEST_SPOOL_BYTES, _LARGEST_SPOOL_BYTES)
        ),
        spool_seconds=_number(env, "STEPWATT_SPOOL_DAYS", spool.LIMIT_SECONDS / _DAY_SECONDS, 0.01, 365.0)
        * _DAY_SECONDS,
        job_python=env.get("STEPWATT_JOB_PYTHON") or sys.executable,
        job_address=env.get("STEPWATT_JOB_ADDRESS", ""),
    )


def _home(env: Mapping[str, str]) -> Path:
    """Return where an agent keeps its files that was installed from its wheel; the client looks for the socket there."""
    return SYSTEM_DIRECTORY if os.geteuid() == 0 else Path(env.get("HOME") or Path.home()) / USER_DIRECTORY


def _directory(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigInvalid(
            f"{path} cannot be made ({error.strerror}); STEPWATT_DATA_DIR names another place"
        ) from error
    if not os.access(path, os.W_OK):
        raise ConfigInvalid(f"{path} cannot be written; STEPWATT_DATA_DIR names another place")
    return path


def _broker_url(env: Mapping[str, str], joined: Membership) -> str:
    """Return the broker's address: the environment's before the membership's, since the embedded broker's port changes."""
    url, source = joined.broker_url, f"{membership.NAME}, broker_url"
    if env.get("STEPWATT_BROKER_URL"):
        url, source = env["STEPWATT_BROKER_URL"], "STEPWATT_BROKER_URL"
    file = env.get("STEPWATT_BROKER_URL_FILE")
    if file:
        try:
            url, source = Path(file).read_text().strip(), f"STEPWATT_BROKER_URL_FILE={file}"
        except OSError as error:
            raise ConfigInvalid(f"STEPWATT_BROKER_URL_FILE={file}: cannot be read ({error.strerror})") from error
    if url.partition("://")[0] not in BROKER_SCHEMES:
        raise ConfigInvalid(f"{source}: expected a URL that begins with {', '.join(BROKER_SCHEMES)}")
    return url


def _broker_ca(env: Mapping[str, str]) -> str:
    raw = env.get("STEPWATT_BROKER_CA", "")
    if not raw:
        return ""
    path = Path(raw).resolve()
    try:
        path.open("rb").close()
    except OSError as error:
        raise ConfigInvalid(f"STEPWATT_BROKER_CA={raw}: cannot be read ({error.strerror})") from error
    return str(path)


def _socket_path(env: Mapping[str, str], directory: Path) -> Path:
    """Return where loops send their steps: of a machine's own agent in a directory that every user and container may see."""
    is_machines = directory == SYSTEM_DIRECTORY
    path = Path(env.get("STEPWATT_SOCKET") or (SYSTEM_SOCKET if is_machines else directory / "steps.sock"))
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
