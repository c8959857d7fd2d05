"""The whole product on a directory of its own, asked as a script asks it: by the HTTP API with a token. Called by the benches."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from fleet.settings import BASE_DIR
from telemetry.bench.figure import BenchFailed
from telemetry.bench.own_server import environment, wait_until
from telemetry.bench.peer import answered
from telemetry.bench.server_up import Up, server_up

_START_SECONDS, _POLL_SECONDS = 60.0, 0.05
_ENDED = ("done", "failed", "cancelled", "lost")
_JOB_COMMAND = "training/reference/start.py"


@dataclass(frozen=True, slots=True)
class Product:
    """A running server with the agent of this machine, `host`. `cpu` is the UUID of its CPU as a device."""

    up: Up
    token: str
    host: str = ""
    cpu: str = ""

    def get(self, path: str) -> Any:
        return self._asked("GET", path)

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return self._asked("POST", path, body or {})

    def launch(self, workload: str, *, device: str = "", **params: object) -> int:
        """Launch a job on this machine as the button does; returns its number."""
        order = {"workload": workload, "hosts": [self.host], "params": params, "device": device}
        return int(self.post("reference/jobs", order)["items"][0]["id"])

    def job(self, job_id: int) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"reference/jobs/{job_id}")
        return found

    def wait_for_step(self, job_id: int, within_seconds: float) -> None:
        """Return when the job's first step is known here. Raises BenchFailed where it ends before, or takes longer."""
        deadline = time.monotonic() + within_seconds
        while not (job := self.job(job_id))["step"]:
            if job["state"] in _ENDED or time.monotonic() > deadline:
                raise BenchFailed(f"job {job_id} ({job['workload']}) made no step: {job['state']} {job['reason']}")
            time.sleep(_POLL_SECONDS)

    def wait_for_end(self, job_id: int, within_seconds: float) -> dict[str, Any]:
        """Return the ended job. Raises BenchFailed where it takes longer."""
        wait_until(lambda: self.job(job_id)["state"] in _ENDED, within_seconds, f"the end of job {job_id}")
        return self.job(job_id)

    def job_process(self) -> psutil.Process:
        """Return the process of the job that runs. Raises BenchFailed where there is none."""
        for process in psutil.Process(self.up.pids["supervisor"]).children(recursive=True):
            if _JOB_COMMAND in " ".join(process.cmdline()):
                return process
        raise BenchFailed("no job's process runs")

    def _asked(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        connection = self.up.web.connect()
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        try:
            connection.request(method, f"/api/v1/{path}", None if body is None else json.dumps(body), headers)
            return json.loads(answered(connection, path))
        finally:
            connection.close()


@contextmanager
def product(directory: Path) -> Iterator[Product]:
    """Yield the product once this machine's agent has told of its devices. Raises BenchFailed."""
    with server_up(directory) as up:
        made = subprocess.run(
            [sys.executable, "manage.py", "create_token", "bench", "--role", "operator"],
            cwd=BASE_DIR, env=environment(directory), text=True, check=False, capture_output=True,
        )  # fmt: skip
        if made.returncode:
            raise BenchFailed(f"no token: {made.stderr.strip()}")
        asking = Product(up, made.stdout.strip())
        wait_until(lambda: bool(asking.get("devices")["items"]), _START_SECONDS, "the agent's first sample")
        device = next(each for each in asking.get("devices")["items"] if each["kind"] == "cpu")
        yield Product(up, asking.token, device["host"], device["uuid"])
