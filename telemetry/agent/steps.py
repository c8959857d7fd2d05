"""The step listener: a local datagram socket on which training loops leave their step timings, as JSON frames.

It trusts nothing that it receives: frames are bounded, must be JSON objects, and are handed on as data. What they mean is
known to the extension that registered a handler (the upper package).
"""

import json
import logging
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from telemetry.agent.context import Frame

logger = logging.getLogger(__name__)

MAX_FRAME_BYTES = 8_192
GATHER_SECONDS = 1.0
MAX_FRAMES = 2_000
_RECEIVE_BUFFER_BYTES = 1 << 20


class StepListener:
    """Runs on a thread of its own that sleeps while nobody trains. `refused` counts frames that were not understood."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handlers: list[Callable[[list[Frame]], None]] = []
        self.refused = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._thread = threading.Thread(target=self._run, name="steps", daemon=True)

    def register(self, handler: Callable[[list[Frame]], None]) -> None:
        self._handlers.append(handler)

    def start(self) -> None:
        """Bind the socket. A leftover of a killed agent is removed first; only one agent runs per directory (its lock)."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        self._socket.bind(str(self._path))
        self._path.chmod(0o600)
        self._thread.start()

    def stop(self) -> None:
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def _run(self) -> None:
        while self._socket.fileno() != -1:
            frames = self._gather()
            if not frames:
                continue
            for handler in self._handlers:
                try:
                    handler(frames)
                except Exception:  # the outermost loop of this thread: these frames are lost and said so
                    logger.exception("%d step frames could not be handled", len(frames))

    def _gather(self) -> list[Frame]:
        """Wait for a frame, then take what comes within a second: one message for many steps."""
        frames: list[Frame] = []
        deadline: float | None = None
        while len(frames) < MAX_FRAMES:
            timeout = None if deadline is None else deadline - time.monotonic()
            if timeout is not None and timeout <= 0:
                break
            try:
                self._socket.settimeout(timeout)
                raw = self._socket.recv(MAX_FRAME_BYTES + 1)
            except TimeoutError:
                break
            except OSError:  # closed by stop()
                break
            deadline = deadline or time.monotonic() + GATHER_SECONDS
            frame = _frame(raw)
            if frame is None:
                self.refused += 1
            else:
                frames.append(frame)
        return frames


def _frame(raw: bytes) -> Frame | None:
    if len(raw) > MAX_FRAME_BYTES:
        return None
    try:
        frame: Any = json.loads(raw)
    except ValueError:
        return None
    return frame if isinstance(frame, dict) else None
