"""What a running job has said: its events and its log, read from two pipes as they come. No Django, no torch."""

import codecs
import json
import logging
import os
import selectors
import time
from typing import Any

from training.message.wire import MAX_LOG_CHARACTERS

logger = logging.getLogger(__name__)

_READ_BYTES = 65_536
_END_SECONDS = 0.02  # between two looks


class JobOutput:
    """Reads a job's pipes. `stage` is "" until the job speaks; `result` and `failure` are what it ended with."""

    def __init__(self, events: int, output: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._selector.register(events, selectors.EVENT_READ, self._take_events)
        self._selector.register(output, selectors.EVENT_READ, self._take_output)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = b""
        self.stage = ""
        self.step = 0
        self.total_steps = 0
        self.result: dict[str, Any] | None = None
        self.failure = ""
        self.log = ""
        self.log_changes = 0

    def read(self, wait_seconds: float) -> bool:
        """Wait for something to be said, at most so long, and take it in; False where nothing was."""
        # Both pipes are closed: only the process's own end is waited for, which is near.
        if not self._selector.get_map():
            time.sleep(min(wait_seconds, _END_SECONDS))
            return False
        ready = self._selector.select(wait_seconds)
        for key, _ in ready:
            data = os.read(key.fd, _READ_BYTES)
            if not data:
                self._selector.unregister(key.fd)
            key.data(data)
        return bool(ready)

    def drain(self) -> None:
        """Take in what an ended job left in its pipes."""
        while self.read(0):
            pass
        self._selector.close()

    @property
    def last_line(self) -> str:
        lines = [line for line in self.log.splitlines() if line.strip()]
        return lines[-1].strip() if lines else ""

    def _take_output(self, data: bytes) -> None:
        text = self._decoder.decode(data, final=not data)
        if text:
            self.log = (self.log + text)[-MAX_LOG_CHARACTERS:]
            self.log_changes += 1

    def _take_events(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            try:
                self._take_event(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                logger.warning("a job's event was left out: %s", error)

    def _take_event(self, event: dict[str, Any]) -> None:
        match event["event"]:
            case "stage":
                self.stage = event["name"]
            case "progress":
                self.step, self.total_steps = int(event["step"]), int(event["total"])
            case "result":
                self.result = dict(event["result"])
            case "failure":
                self.failure = str(event["reason"])
