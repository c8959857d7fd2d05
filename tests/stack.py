"""The whole product, started as `make up` does, in a directory and on a port of its own.

`stack` is one for all tests that only use it; a test that kills parts of it starts its own with `start_stack`.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from tests.ports import free_port
from tests.process.traces import wait_until

ROOT = Path(__file__).parents[1]
START_SECONDS, STOP_SECONDS, THERE_SECONDS = 300, 120, 180
# The web server closes a connection that was silent for 5 s: a client that lets go of it first sends nothing into that moment.
KEPT_CONNECTIONS = httpx.Limits(keepalive_expiry=2)
_PASSWORD = re.compile(r"one-time password (\S+)")


class Stack:
    """`manage.py up` as a child process; `log` holds what all of its processes printed."""

    def __init__(self, directory: Path, *options: str, **settings: str) -> None:
        self.directory = directory
        self._options = options
        bind = settings.setdefault("STEPWATT_BIND", f"127.0.0.1:{free_port()}")
        self.url = f"http://{bind}"
        self._log_path = directory / "up.log"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("STEPWATT_", "DJANGO_"))},
            "STEPWATT_DATA_DIR": str(directory / "var"),
            "STEPWATT_BATCH_SECONDS": "1",
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.password = ""

    @property
    def log(self) -> str:
        return self._log_path.read_text(errors="replace")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        with self._log_path.open("wb") as log:
            command = [sys.executable, "manage.py", "up", *self._options]
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=self.environment, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )
        self.wait_for_log("Ctrl-C stops everything", START_SECONDS)
        self.password = (_PASSWORD.search(self.log) or [self.password] * 2)[1]

    def stop(self) -> int:
        """Ask once, politely; returns the exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout=STOP_SECONDS)

    def kill_if_running(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def wait_for_log(self, text: str, within_seconds: float) -> None:
        def came() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, f"it ended by itself:\n{self.log}"
            return text in self.log

        wait_until(came, within_seconds, f"the line {text!r}")

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a management command against this stack's data."""
        command = [sys.executable, "manage.py", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False, timeout=480
        )

    def child(self, words: str) -> psutil.Process:
        """Return the one process of this stack whose command holds the words, once it is there: it may just be starting again."""
        found: list[psutil.Process] = []

        def is_one() -> bool:
            found[:] = those(psutil.Process(self.pid), words)
            return len(found) == 1

        wait_until(is_one, THERE_SECONDS, f"one process of {words!r}")
        return found[0]

    def signed_in(self) -> httpx.Client:
        """Return a client in which the admin is signed in, and whose unsafe requests carry the CSRF token."""
        client = httpx.Client(base_url=self.url, timeout=60, follow_redirects=True, limits=KEPT_CONNECTIONS)
        client.get("/login/")
        form = {"username": "admin", "password": self.password, "csrfmiddlewaretoken": client.cookies["csrftoken"]}
        answer = client.post("/login/", data=form, headers={"Referer": f"{self.url}/login/"})
        assert answer.status_code == 200, answer.text[:2000]
        assert "sessionid" in client.cookies, "the sign-in was refused"
        client.headers.update({"X-CSRFToken": client.cookies["csrftoken"], "Referer": f"{self.url}/"})
        return client


def the_one(parent: psutil.Process, words: str) -> psutil.Process:
    """Return the one process below `parent` whose command holds the words."""
    (one,) = those(parent, words)
    return one


def those(parent: psutil.Process, words: str) -> list[psutil.Process]:
    """Return the processes below `parent` whose command holds the words; one that such a one starts has, at first, the same."""
    found = [process for process in parent.children(recursive=True) if words in command_of(process)]
    copies = {copy.pid for process in found for copy in _children_of(process)}
    return [process for process in found if process.pid not in copies]


def _children_of(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children()
    except psutil.NoSuchProcess:
        return []


def command_of(process: psutil.Process) -> str:
    """Return its command line, "" where it has ended meanwhile."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


@contextmanager
def start_stack(directory: Path, *options: str, **settings: str) -> Iterator[Stack]:
    stack = Stack(directory, *options, **settings)
    try:
        stack.start()
        yield stack
        assert stack.stop() == 0, stack.log[-3000:]
    finally:
        stack.kill_if_running()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Return a running product with this machine as its only host."""
    with start_stack(tmp_path_factory.mktemp("stack")) as running:
        yield running
