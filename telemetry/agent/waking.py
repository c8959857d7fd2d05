"""Has a signal wake the host's worker, which sleeps until its broker says something and would look at the signal then only.

A step of Celery's worker, taken anew with each connection. No Django.
"""

import signal
import socket
from typing import Any

from celery import bootsteps

_MANY_BYTES = 64


class Waking(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """Made with the worker, on the main thread; there is one in a process."""

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        self._ear, self._mouth = socket.socketpair()
        self._ear.setblocking(False)
        self._mouth.setblocking(False)
        signal.set_wakeup_fd(self._mouth.fileno(), warn_on_full_buffer=False)

    def register_with_event_loop(self, _parent: Any, hub: Any) -> None:
        hub.add_reader(self._ear, self._hear)

    def _hear(self) -> None:
        """Empty the socket: its loop looks at what the signal's handler has left as soon as it is awake."""
        self._ear.recv(_MANY_BYTES)
