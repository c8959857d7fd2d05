"""How a job speaks to its agent: events as JSON lines on a pipe, step timings as datagrams to the step listener. No torch.

The pipe is the job's own and is always read, so its writes may wait; the step socket is anybody's, so nothing waits for it.
"""

import json
import os
import socket
import time
import uuid
from collections import deque
from typing import Any

from training.steps import datagram
from training.steps.datagram import UNTOLD_NS, WARM_UP, Record

_OF_RUN = ("run", "launch", "rank", "world_size")  # where a frame names them
_ABOUT = (*_OF_RUN, "device_uuid")
_MOST_WAITING = 256
_FAREWELL_SECONDS = 2.0  # once nothing is measured any more, a listener that is behind is waited for


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
    """Sends steps to `path` without ever waiting or failing; `dropped` counts what did not go out.

    What finds the listener behind goes out with the next step, or at the end.

    A datagram names its receiver each time, so that a listener that starts again is found again.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._process = uuid.uuid4().hex
        self._sequence = 0
        self._about: list[Any] = []
        self._head = b""
        self._waiting: deque[bytes] = deque()
        self.dropped = 0

    def send(self, frame: dict[str, Any]) -> None:
        """Tell of a step; it ended at `ended_ns` of time.perf_counter_ns, which is CLOCK_MONOTONIC on Linux."""
        if len(self._waiting) < _MOST_WAITING:
            self._waiting.append(self._datagram(frame))
        else:
            self.dropped += 1
        self._sequence += 1
        self._send_waiting()

    def _send_waiting(self) -> None:
        while self._waiting:
            try:
                self._socket.sendto(self._waiting[0], self._path)
            except BlockingIOError:  # the listener is behind
                return
            except OSError:  # there is none: the loop goes on, the result says how many
                self.dropped += 1
            self._waiting.popleft()

    def _datagram(self, frame: dict[str, Any]) -> bytes:
        about = [frame.get(name) for name in _ABOUT]
        if about != self._about:  # it is the same with every step
            self._about, self._head = about, datagram.put_head(self._described(frame))
        samples, tokens, loss = (_number(frame[name]) for name in ("samples", "tokens", "loss"))
        flags = WARM_UP if frame["is_warmup"] else 0
        record = Record(
            self._sequence, self.dropped, frame["number"], frame["ended_ns"], max(1, round(frame["seconds"] * 1e9)),
            _nanoseconds(frame.get("compute_seconds")), samples, tokens, loss, 0, flags,
        )  # fmt: skip
        return self._head + datagram.put_record(record)

    def _described(self, frame: dict[str, Any]) -> dict[str, Any]:
        return {
            **{name: frame[name] for name in _OF_RUN if name in frame},
            "process": self._process,
            "pid": os.getpid(),
            "devices": [frame["device_uuid"]] if frame["device_uuid"] else [],
        }

    def close(self) -> None:
        """Send what waits still; takes up to two seconds."""
        deadline = time.monotonic() + _FAREWELL_SECONDS
        while self._waiting and time.monotonic() < deadline:
            self._send_waiting()
            time.sleep(0.01)
        self.dropped += len(self._waiting)
        self._waiting.clear()
        self._socket.close()


def _nanoseconds(seconds: float | None) -> int:
    return UNTOLD_NS if seconds is None else max(1, round(seconds * 1e9))


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
