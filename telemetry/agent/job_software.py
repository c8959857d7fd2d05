"""Which frameworks and CUDA libraries the host's jobs would use, looked up now and then on a thread of its own.

Asking the jobs' interpreter may take seconds, and hangs where that lies on a network disk that does.
"""

import logging
import threading
from collections.abc import Mapping

from telemetry.agent.software import installed

logger = logging.getLogger(__name__)

EVERY_SECONDS = 600.0


class JobSoftware:
    """`versions` is what was found last, {} before the first answer."""

    def __init__(self, python: str) -> None:
        self._python = python
        self._versions: Mapping[str, str] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="software", daemon=True)

    def versions(self) -> Mapping[str, str]:
        return self._versions

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def _run(self) -> None:
        while True:
            try:
                self._versions = installed(self._python)
            except Exception:  # the outermost loop of this thread: what was found before stays, and it is asked again
                logger.exception("the software of %s could not be looked up", self._python)
            if self._stop.wait(EVERY_SECONDS):
                return
