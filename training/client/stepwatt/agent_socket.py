"""The way to the agent on this host: datagrams to its socket, without ever waiting. Called by the run."""

from __future__ import annotations

import os
import socket
import time
from collections import deque

LOOK_AGAIN_SECONDS = 5.0  # while no socket is found: an agent may be started after the loop
MOST_WAITING = 256  # datagrams for which the socket had no room: Linux keeps 10 where it was never told to keep more
FAREWELL_SECONDS = 0.2


def candidates() -> list[str]:
    """Return where an agent's socket may be, the most explicit first. The agent's telemetry/agent/config.py agrees."""
    named = os.environ.get("STEPWATT_SOCKET")
    if named:
        return [named]
    data = os.environ.get("STEPWATT_DATA_DIR")
    paths = [os.path.join(data, "agent", "steps.sock")] if data else []
    home = os.path.join(os.path.expanduser("~"), ".local", "share", "stepwatt", "steps.sock")
    return [*paths, home, "/run/stepwatt/steps.sock"]


class AgentSocket:
    """`send` hands a datagram over, or keeps it until there is room; `dropped` counts those that went nowhere.

    Of an agent that was started again the new socket is found. After a fork, `reset`.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew, as a process of its own."""
        self.dropped = 0
        self._socket: socket.socket | None = None
        self._waiting: deque[bytes] = deque()
        self.look_at_ns = 0  # until then there is no agent: nothing is tried

    def send(self, data: bytes) -> None:
        """Send, and return at once whatever happens."""
        try:
            if self._waiting:
                self._waiting.append(data)
                self._send_waiting()
            else:
                self._socket.send(data)  # type: ignore[union-attr]  # where there is none, it is looked for below
        except BlockingIOError:
            self._keep(data)
        except (OSError, AttributeError):
            self._send_anew(data)

    def farewell(self) -> None:
        """Give what still waits a short time to go: the process ends."""
        deadline = time.monotonic() + FAREWELL_SECONDS
        while self._waiting and self._socket is not None and time.monotonic() < deadline:
            try:
                self._send_waiting()
            except OSError:
                return
            time.sleep(0.001)

    def _send_waiting(self) -> None:
        """Send in their order what there is room for. Raises OSError where the agent is gone."""
        while self._waiting:
            try:
                self._socket.send(self._waiting[0])  # type: ignore[union-attr]
            except BlockingIOError:
                break
            self._waiting.popleft()
        while len(self._waiting) > MOST_WAITING:
            self._waiting.popleft()
            self.dropped += 1

    def _keep(self, data: bytes) -> None:
        self._waiting.append(data)

    def _send_anew(self, data: bytes) -> None:
        """The agent is gone, or was not looked for yet: what waits is not of this agent, and goes to the next."""
        if not self._waiting or self._waiting[-1] is not data:
            self._waiting.append(data)
        try:
            self._connect()
            self._send_waiting()
        except OSError:
            self.dropped += len(self._waiting)
            self._waiting.clear()
            self.look_at_ns = time.perf_counter_ns() + int(LOOK_AGAIN_SECONDS * 1e9)

    def _connect(self) -> None:
        """Raises OSError where no candidate is a socket on which somebody listens."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        made.setblocking(False)
        for path in candidates():
            try:
                made.connect(path)
            except OSError:
                continue
            self._socket = made
            return
        made.close()
        raise OSError("no agent's socket")
