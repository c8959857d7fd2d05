"""From the step listener's frames to messages for the server. Called by the listener once a second. No Django.

Anybody on this host may write to the socket: what is no step timing is counted, said once a minute, and left out.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

from telemetry.agent.context import Submit
from telemetry.wire import MessageInvalid
from training.wire import STEPS_TASK, VERSION, StepTiming, pack_steps, step_from

logger = logging.getLogger(__name__)

MAX_STEPS = 2_000  # in one message
COMPLAIN_SECONDS = 60.0


class StepForwarder:
    """Sends valid steps in batches; `invalid` counts the frames that were none."""

    def __init__(self, host: str, submit: Submit, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._host = host
        self._submit = submit
        self._monotonic = monotonic
        self._complained_at = -COMPLAIN_SECONDS
        self.invalid = 0

    def forward(self, frames: list[dict[str, Any]]) -> None:
        steps = [step for step in map(self._read, frames) if step is not None]
        for start in range(0, len(steps), MAX_STEPS):
            self._submit(STEPS_TASK, pack_steps(self._host, steps[start : start + MAX_STEPS]))

    def _read(self, frame: dict[str, Any]) -> StepTiming | None:
        if frame.get("v") != VERSION:
            self._complain(f"v: expected {VERSION}, found {frame.get('v')!r}")
            return None
        try:
            return step_from(frame)
        except MessageInvalid as error:
            self._complain(str(error))
            return None

    def _complain(self, error: str) -> None:
        self.invalid += 1
        now = self._monotonic()
        if now - self._complained_at >= COMPLAIN_SECONDS:
            self._complained_at = now
            logger.warning("a step frame was left out (%d so far): %s", self.invalid, error)
