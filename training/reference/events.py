"""How a job speaks to its agent: events as JSON lines on a pipe, step timings as datagrams to the step listener. No torch.

The pipe is the job's own and is always read, so its writes may wait; the step socket is anybody's, so nothing waits for it.
"""

import json
import os
import socket
from typing import Any


class Events:
    """Writes JSON lines to an open file descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def stage(self, name: str) -> None:
        self._write({"event": "stage", "name": name})

    def progress(self, step: int, total: int) -> None:
        self._write({"event": "progress", "step": step, "total": total})

    def result(self, result: dict[str, Any]) -> None:
        self._write({"event": "result", "result": result})

    def failure(self, reason: str) -> None:
        self._write({"event": "failure", "reason": reason})

    def _write(self, event: dict[str, Any]) -> None:
        line = json.dumps(event).encode() + b"\n"
        while line:
            line = line[os.write(self._descriptor, line) :]


class StepSocket:
    """Sends step frames to `path` without ever waiting or failing; `dropped` counts what did not go out.

    A datagram names its receiver each time, so that a listener that starts again is found again.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self.dropped = 0

    def send(self, frame: dict[str, Any]) -> None:
        try:
            self._socket.sendto(json.dumps(frame).encode(), self._path)
        except OSError:  # no listener, or one that is behind: the loop goes on, the result says how many
            self.dropped += 1

    def close(self) -> None:
        self._socket.close()
