"""One taking-up of the driver, from nvmlInit to nvmlShutdown, which waits until no call is under way any more.

Made by backend.py at `open`; every read of a device happens inside it. A driver that is shut down while a call hangs in it
crashes the process when the call comes back: the last call that leaves shuts it down then.
"""

import logging
import threading
from collections.abc import Callable

import pynvml

from telemetry.agent.backends.nvml.errors import advice, is_driver_away
from telemetry.agent.backends.protocol import BackendUnavailable
from telemetry.agent.backends.rounds import Gate

_log = logging.getLogger(__name__)

_PATIENCE_SECONDS = 1.0  # for calls that are under way when the driver is let go of


class Session(Gate):
    """`is_broken` is set by a read that met an unloaded driver, `is_changed` by one that met a changed device."""

    def __init__(self) -> None:
        """Take the driver up. Raises BackendUnavailable."""
        super().__init__()
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise BackendUnavailable(advice(error)) from error
        self.is_broken = False
        self.is_changed = False
        self._calm = threading.Condition(self.lock)
        self._is_over = False
        self._held: list[Callable[[], None]] = []

    @property
    def is_busy(self) -> bool:
        """Whether a call is under way on another thread."""
        return self.under_way > 0

    def hold(self, give_back: Callable[[], None]) -> None:
        """Remember what is to be given back to the driver before it is shut down."""
        self._held.append(give_back)

    def drop(self, give_back: Callable[[], None]) -> None:
        """Forget what was given back already."""
        self._held.remove(give_back)

    def enter(self) -> bool:
        """Begin a call; False where the driver is being let go of. `leave` follows every True."""
        with self.lock:
            if self.is_closing:
                return False
            self.under_way += 1
            return True

    def leave(self) -> None:
        with self.lock:
            self.under_way -= 1
            if self.is_closing:
                self.note_left()

    def note_left(self) -> None:
        """Shut the driver down where that waits for calls, and none is under way. Called with the lock."""
        if not self.under_way:
            self._end()
            self._calm.notify_all()

    def close(self) -> None:
        """Let go of the driver: at once, or, where a call does not come back in time, when it does."""
        with self._calm:
            if self.is_closing:
                return
            self.is_closing = True
            if not self.under_way:
                self._end()
            elif not self._calm.wait_for(lambda: self._is_over, _PATIENCE_SECONDS):
                _log.warning("an NVIDIA driver call does not return: the driver is let go of when it does")

    def abandon(self) -> None:
        """End the session without shutting the driver down, which a thread is known to be in for good."""
        with self.lock:
            self.is_closing = True
            self.under_way += 1  # never left

    def _end(self) -> None:
        self._is_over = True
        try:
            for give_back in self._held:
                give_back()
            pynvml.nvmlShutdown()
        except pynvml.NVMLError as error:
            # A driver that was unloaded meanwhile is shut down already.
            level = logging.DEBUG if is_driver_away(error.value) else logging.WARNING
            _log.log(level, "the NVIDIA driver does not shut down cleanly: %s", error)
