"""The way to the agent on this host: datagrams to its socket, without ever waiting. Called by the run."""

from __future__ import annotations

import json
import os
import socket
import time
from typing import Any

MAX_FRAME_BYTES = 8_192  # the agent refuses longer ones
LOOK_AGAIN_SECONDS = 5.0  # while no socket is found: an agent may be started after the loop


def candidates() -> list[str]:
    """Return where an agent's socket may be, the most explicit first. The agent's telemetry/agent/config.py agrees."""
    named = os.environ.get("STEPWATT_SOCKET")
    if named:
        return [named]
    data = os.environ.get("STEPWATT_DATA_DIR")
    homes = [os.path.join(data, "agent")] if data else []
    homes += [os.path.join(os.path.expanduser("~"), ".local", "share", "stepwatt"), "/var/lib/stepwatt"]
    return [os.path.join(home, "steps.sock") for home in homes]


class AgentSocket:
    """`send` hands a frame over or drops it; `dropped` counts those that met no agent, or one that was behind.

    A child after a fork opens a socket of its own. Each datagram names its receiver, so that an agent which was started
    again is found again.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._socket: socket.socket | None = None
        self._owner = 0
        self._path = ""
        self._look_at = 0.0

    def send(self, frame: dict[str, Any]) -> None:
        """Send, and return at once whatever happens."""
        try:
            is_sent = self._send(frame)
        except Exception:  # noqa: BLE001 — the loop is not ours: nothing of this may reach it
            is_sent = False
            self._path = ""
        self.dropped += not is_sent

    def _send(self, frame: dict[str, Any]) -> bool:
        path = self._find()
        data = json.dumps(frame, allow_nan=False).encode()
        if not path or len(data) > MAX_FRAME_BYTES:
            return False
        self._open().sendto(data, path)
        return True

    def _find(self) -> str:
        now = time.monotonic()
        if not self._path and now >= self._look_at:
            self._look_at = now + LOOK_AGAIN_SECONDS
            self._path = next((path for path in candidates() if os.path.exists(path)), "")
        return self._path

    def _open(self) -> socket.socket:
        if self._socket is None or self._owner != os.getpid():
            made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            made.setblocking(False)
            self._socket, self._owner = made, os.getpid()
        return self._socket
