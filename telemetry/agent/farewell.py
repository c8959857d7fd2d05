"""What the extensions do at the agent's end: begun by the signal itself, as the worker may take seconds to leave its broker.

Called by the agent's app. No Django.
"""

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread

from celery.signals import worker_shutting_down


class Farewell:
    """Runs what was registered once, on a thread of its own, from the moment when the worker is told to end."""

    def __init__(self) -> None:
        self._acts: list[Callable[[], None]] = []
        self._told = SimpleQueue[None]()  # its put is safe within a signal's handler
        self._thread = Thread(target=self._run, name="farewell", daemon=True)

    def register(self, act: Callable[[], None]) -> None:
        self._acts.append(act)

    def start(self) -> None:
        self._thread.start()
        worker_shutting_down.connect(self._begin)

    def stop(self) -> None:
        """Return when all is done that was registered."""
        self._begin()
        self._thread.join()

    def _begin(self, **_: object) -> None:
        self._told.put(None)

    def _run(self) -> None:
        self._told.get()
        for act in self._acts:
            act()
