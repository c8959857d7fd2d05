"""A fresh clone of this tree in which `make up` runs, and a signed-in client of its pages, for the process tests."""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import httpx
import psutil
from django.conf import settings

from tests.ports import free_port
from tests.process.traces import wait_until
from tests.programs import require
from tests.stack import KEPT_CONNECTIONS, command_of

INSTALL_SECONDS, START_SECONDS, STOP_SECONDS = 1200, 300, 120
_HOME = Path.home()


class Site:
    """The clone, its settings, and its run; pip's own settings and cache are the caller's, nothing else is."""

    def __init__(self, directory: Path) -> None:
        self.clone, home = directory / "clone", directory / "home"
        home.mkdir()
        _copy_tree(self.clone)
        self.port = free_port()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("STEPWATT_", "DJANGO_"))},
            "HOME": str(home),
            "STEPWATT_BIND": f"127.0.0.1:{self.port}",
            "PIP_CACHE_DIR": os.environ.get("PIP_CACHE_DIR", str(_HOME / ".cache" / "pip")),
            **_pip_settings(),
        }
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60, limits=KEPT_CONNECTIONS)
        self.password = ""

    def start(self, within_seconds: float) -> None:
        """Run `make up` until it serves."""
        self._log = (self.clone.parent / "output").open("wb")
        self.make = psutil.Popen(
            [require("make"), "up"], cwd=self.clone, env=self.environment, stdout=self._log, stderr=self._log
        )
        wait_until(self._serves, within_seconds, "`make up` serving /healthz")
        wait_until(lambda: "Ctrl-C stops everything" in self.output, 180, "the welcome")

    @property
    def output(self) -> str:
        return (self.clone.parent / "output").read_text()

    @property
    def processes(self) -> list[psutil.Process]:
        return self.make.children(recursive=True)

    @property
    def supervisor(self) -> psutil.Process:
        """Not the lowest number among them: numbers begin anew."""
        (found,) = (process for process in self.make.children() if "up" in command_of(process).split())
        return found

    def stop(self) -> None:
        """Stop it as a person would who has no terminal: one SIGTERM to `make`."""
        self.make.send_signal(signal.SIGTERM)
        self.make.wait(STOP_SECONDS)
        self._log.close()

    def sign_in(self) -> httpx.Response:
        """Sign in with the one-time password of the first start."""
        self.password = re.search(r"admin with the one-time password (\S+)", self.output)[1]
        self.client.get("/login/").raise_for_status()
        form = {"username": "admin", "password": self.password, "csrfmiddlewaretoken": self._csrf_token()}
        return self.client.post("/login/", data=form)

    def get_json(self, path: str) -> dict:
        return self.client.get(f"/api/v1/{path}").raise_for_status().json()

    def post_json(self, path: str, body: dict) -> dict:
        headers = {"X-CSRFToken": self._csrf_token()}
        return self.client.post(f"/api/v1/{path}", json=body, headers=headers).raise_for_status().json()

    def launch(self, workload: str, host: str, params: dict) -> str:
        """Launch a reference job as the button does; returns its path for `get_json`."""
        launched = self.post_json("reference/jobs", {"workload": workload, "hosts": [host], "params": params})
        return f"reference/jobs/{launched['items'][0]['id']}"

    def _csrf_token(self) -> str:
        return self.client.cookies["csrftoken"]

    def _serves(self) -> bool:
        assert self.make.poll() is None, f"`make up` ended:\n{self.output}"
        try:
            return self.client.get("/healthz").status_code == 200
        except httpx.TransportError:
            return False


def _copy_tree(target: Path) -> None:
    """Copy what git tracks or would track: a clone of the working tree, with nothing that a build left in it."""
    listed = subprocess.run(
        [require("git"), "ls-files", "-coz", "--exclude-standard"],
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (settings.BASE_DIR / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(settings.BASE_DIR / name, target / name)


def _pip_settings() -> dict[str, str]:
    """Return where pip is told which index to use: with an empty HOME it would not find the caller's file."""
    files = [_HOME / ".config" / "pip" / "pip.conf", _HOME / ".pip" / "pip.conf"]
    return next(({"PIP_CONFIG_FILE": str(file)} for file in files if file.is_file()), {})
