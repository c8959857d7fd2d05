"""The way to the agent on this host: datagrams to its socket, without ever waiting. Called by the run."""

from __future__ import annotations

import os
import socket
import time
from collections import deque

LOOK_AGAIN_SECONDS = 5.0  # while no socket is found: an agent may be started after the loop
MISSED_AGAIN_SECONDS, MISSED_SECONDS = 0.5, 60.0  # of one that was there: it is being started again, as a rule
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
        self.is_missed = False  # there was one a moment ago: what is for it waits
        self._missed_until_ns = 0
        self._was_there = False

    def send(self, data: bytes) -> None:
        """Send, and return at once whatever happens."""
        try:
            if self._waiting:
                self.keep(data)
                self._send_waiting()
            else:
                self._socket.send(data)  # type: ignore[union-attr]  # where there is none, it is looked for below
        except BlockingIOError:
            self.keep(data)
        except (OSError, AttributeError):
            self._send_anew(data)

    def farewell(self) -> None:
        """Give what still waits a short time to go: the process ends."""
        deadline = time.monotonic() + FAREWELL_SECONDS
        try:
            while self._waiting and time.monotonic() < deadline:
                if self._socket is None:
                    self._connect()
                self._send_waiting()
                time.sleep(0.001)
        except OSError:
            return

    def _send_waiting(self) -> None:
        """Send in their order what there is room for. Raises OSError where the agent is gone."""
        while self._waiting:
            try:
                self._socket.send(self._waiting[0])  # type: ignore[union-attr]
            except BlockingIOError:
                break
            self._waiting.popleft()

    def keep(self, data: bytes) -> None:
        """Have the datagram wait for room, or for the agent that is missed; the oldest goes where too many do."""
        self._waiting.append(data)
        while len(self._waiting) > MOST_WAITING:
            self._waiting.popleft()
            self.dropped += 1

    def _send_anew(self, data: bytes) -> None:
        """The agent is gone, or was not looked for yet: what waits goes to the one that is found."""
        if not self._waiting or self._waiting[-1] is not data:
            self.keep(data)
        try:
            self._connect()
            self._send_waiting()
            self._missed_until_ns = 0
            self.is_missed = False
        except OSError:
            self._miss()

    def _miss(self) -> None:
        """Have what waits wait on for an agent that was there not long ago; else give it up."""
        now = time.perf_counter_ns()
        if self._was_there and not self._missed_until_ns:
            self._missed_until_ns = now + int(MISSED_SECONDS * 1e9)
        self.is_missed = now < self._missed_until_ns
        if not self.is_missed:
            self._was_there = False
            self.dropped += len(self._waiting)
            self._waiting.clear()
        self.look_at_ns = now + int((MISSED_AGAIN_SECONDS if self.is_missed else LOOK_AGAIN_SECONDS) * 1e9)

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
            self._was_there = True
            return
        made.close()
        raise OSError("no agent's socket")
