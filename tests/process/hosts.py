"""Further hosts for a running stack: an agent that joins by what `add_host` prints, and runs in a directory of its own."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.stack import ROOT, Stack

AGENT = (sys.executable, "-m", "telemetry.agent")
_JOIN = re.compile(r"stepwatt-agent join (\S+ --token \S+ --server-key \S+)")


@dataclass
class SecondHost:
    """A host that has joined; `directory` is its data directory."""

    name: str
    directory: Path
    settings: Mapping[str, str]
    prefix: Sequence[str] = ()  # what each of its commands begins with, such as the way into a network namespace

    @property
    def environment(self) -> dict[str, str]:
        own = {"STEPWATT_DATA_DIR": str(self.directory), "STEPWATT_BATCH_SECONDS": "1"}
        return {k: v for k, v in os.environ.items() if not k.startswith("STEPWATT_")} | own | dict(self.settings)

    def agent(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of the agent's commands to its end."""
        command = [*self.prefix, *AGENT, *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False, timeout=120
        )

    @contextmanager
    def running(self, command: Sequence[str] = (*AGENT, "run")) -> Iterator[subprocess.Popen[bytes]]:
        """Run its agent. What it says stands in the file `log` in its directory."""
        with (self.directory / "log").open("ab") as log:
            process = subprocess.Popen([*self.prefix, *command], cwd=ROOT, env=self.environment, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")


def add_host(stack: Stack, name: str) -> list[str]:
    """Return the arguments with which `add_host` tells its agent to join."""
    added = stack.manage("add_host", name)
    assert added.returncode == 0, added.stderr
    found = _JOIN.search(added.stdout)
    assert found, added.stdout
    return found[1].split()


def joined(stack: Stack, name: str, directory: Path, prefix: Sequence[str] = (), **settings: str) -> SecondHost:
    """Return a host that was added and has joined."""
    directory.mkdir(parents=True, exist_ok=True)
    host = SecondHost(name, directory, settings, prefix)
    answer = host.agent("join", *add_host(stack, name))
    assert answer.returncode == 0, answer.stderr
    return host
