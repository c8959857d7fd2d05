"""`stepwatt-agent release` and `resume`: asking the agent that runs on this host, over a socket in its own directory.

The commands are the client; the running agent listens and lets its drivers.DriverControl decide. No Celery here.
"""

import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from telemetry.agent.invalid import ConfigInvalid

logger = logging.getLogger(__name__)

SOCKET = "control.sock"
MOST_MINUTES = 24 * 60.0
_ANSWER_SECONDS = 30.0
_MAX_BYTES = 4_096
_BACKLOG = 4

Ask = Callable[[str, float], str]
"""("release" or "resume", minutes) → what happened, for people."""


def release(directory: Path, minutes: float) -> None:
    """Have the agent let go of the drivers, and print what happened. Raises ConfigInvalid where no agent runs."""
    if not 0 < minutes <= MOST_MINUTES:
        raise ConfigInvalid(f"--minutes {minutes:g}: expected more than 0 and at most {MOST_MINUTES:g}")
    print(_ask(directory, {"do": "release", "minutes": minutes}))  # noqa: T201 — a command's answer


def resume(directory: Path) -> None:
    """Have the agent take the drivers up again, and print what happened. Raises ConfigInvalid where no agent runs."""
    print(_ask(directory, {"do": "resume", "minutes": 0}))  # noqa: T201 — a command's answer


class ControlSocket:
    """The agent's end, on a thread of its own that sleeps until somebody asks."""

    def __init__(self, directory: Path, ask: Ask) -> None:
        self._directory, self._ask = directory, ask
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    def start(self) -> None:
        """Bind the socket. A leftover of a killed agent is removed first; only one agent runs per directory (its lock)."""
        with _address(self._directory) as address:
            Path(address).unlink(missing_ok=True)
            self._socket.bind(address)
            Path(address).chmod(0o600)
        self._socket.listen(_BACKLOG)
        self._thread.start()

    def stop(self) -> None:
        self._socket.close()
        (self._directory / SOCKET).unlink(missing_ok=True)

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # closed by stop()
                return
            with connection:
                try:
                    self._serve(connection)
                except Exception:  # the outermost loop of this thread: whoever asked gets no answer, the next one does
                    logger.exception("a command could not be answered")

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(_ANSWER_SECONDS)
        wish = _read(connection)
        minutes = wish.get("minutes")
        if wish.get("do") not in {"release", "resume"} or not isinstance(minutes, (int, float)):
            raise ValueError(f"a command that is not understood: {wish!r:.200}")
        connection.sendall(json.dumps({"text": self._ask(wish["do"], min(minutes, MOST_MINUTES))}).encode() + b"\n")


def _ask(directory: Path, wish: dict[str, Any]) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection, _address(directory) as address:
        connection.settimeout(_ANSWER_SECONDS)
        try:
            connection.connect(address)
        except OSError as error:
            raise ConfigInvalid(
                f"no agent runs in {directory} ({error.strerror}); start it, or set STEPWATT_DATA_DIR"
            ) from None
        try:
            connection.sendall(json.dumps(wish).encode() + b"\n")
            return str(_read(connection)["text"])
        except (OSError, ValueError, KeyError):
            raise ConfigInvalid("the agent does not answer; see its log") from None


def _read(connection: socket.socket) -> dict[str, Any]:
    """Return the object of one line, {} where it is none. Raises OSError, ValueError."""
    raw = b""
    while not raw.endswith(b"\n"):
        part = connection.recv(_MAX_BYTES)
        raw += part
        if not part or len(raw) > _MAX_BYTES:
            raise ValueError("expected one line")
    found = json.loads(raw)
    return found if isinstance(found, dict) else {}


@contextmanager
def _address(directory: Path) -> Iterator[str]:
    """Yield the socket's address; by way of the open directory, since a socket's path may have 107 bytes only."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET}"
    finally:
        os.close(descriptor)
