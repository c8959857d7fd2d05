"""A simulated fleet under which faults happen, and the comparison of what its hosts took with what the store holds."""

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.stack import ROOT, Stack

GPUS = 4
_DRAIN_SECONDS = 240


class Load:
    """`manage.py simulate` as a process of its own; `report` is what its hosts took, once it has ended."""

    def __init__(self, stack: Stack, directory: Path, prefix: str, n_hosts: int, broker_url: str) -> None:
        self._report_path, self._log_path = directory / f"{prefix}.json", directory / f"{prefix}.log"
        command = [
            sys.executable, "manage.py", "simulate", "--hosts", str(n_hosts), "--gpus", str(GPUS), "--prefix", prefix,
            "--report", str(self._report_path),
        ]  # fmt: skip
        environment = {**stack.environment, "STEPWATT_BROKER_URL": broker_url}
        with self._log_path.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)

    @property
    def log(self) -> str:
        return self._log_path.read_text(errors="replace")

    def stop(self) -> dict[str, dict[str, object]]:
        """Let it hand over what its spool holds, and return {host: {"epoch", "batches", "samples", "digest"}}."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=_DRAIN_SECONDS) == 0, self.log[-3000:]
        return json.loads(self._report_path.read_text())


@contextmanager
def load(stack: Stack, directory: Path, prefix: str, n_hosts: int, broker_url: str) -> Iterator[Load]:
    running = Load(stack, directory, prefix, n_hosts, broker_url)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()


def stored(stack: Stack) -> dict[str, dict[str, object]]:
    """Return the same of what the store holds."""
    answer = stack.manage("shell", "--no-imports", "-c", _STORED)
    assert answer.returncode == 0, answer.stderr[-3000:]
    return json.loads(answer.stdout)


def ranges_of_agent(stack: Stack) -> list[list[list[int]]]:
    """Return the ranges of sequences accepted from this machine's own agent, by epoch: one from 0, where nothing was lost.

    Where its disk was full it has begun another epoch.
    """
    answer = stack.manage("shell", "--no-imports", "-c", _AGENTS_RANGES)
    assert answer.returncode == 0, answer.stderr[-3000:]
    return json.loads(answer.stdout)


def digest_of(bodies: Iterator[bytes]) -> int:
    """Return a number that the same bodies give in any order."""
    return sum(int.from_bytes(hashlib.blake2b(body, digest_size=8).digest(), "big") for body in bodies) % 2**64


_STORED = """
import json
from fleet.models import Host
from telemetry.decoding import received
from telemetry.models import AcceptedSequences, StoredBatch
from tests.soak.load import digest_of
found = {}
for host in Host.objects.filter(origin="simulated"):
    bodies = [bytes(body) for body in StoredBatch.objects.filter(host=host).values_list("body", flat=True)]
    samples = sum(part.steps.size for body in bodies for part in received.read(body)[1])
    epochs = list(AcceptedSequences.objects.filter(host=host).order_by("epoch"))
    accepted = sum(last - first + 1 for row in epochs for first, last in row.ranges)
    found[host.name] = {"epoch": " ".join(row.epoch for row in epochs), "batches": len(bodies), "samples": samples,
                        "digest": digest_of(iter(bodies)), "accepted": accepted}
print(json.dumps(found))
"""
_AGENTS_RANGES = """
import json
from telemetry.models import AcceptedSequences
print(json.dumps([row.ranges for row in AcceptedSequences.objects.filter(host__origin="real")]))
"""
