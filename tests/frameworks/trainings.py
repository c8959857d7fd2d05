"""Runs a training script on a framework's interpreter, and takes down what its steps tell to an agent's socket."""

import json
import math
import os
import socket
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.frameworks import venvs
from training.steps import datagram
from training.steps.columns import StepKind

_END = b"end"
_ENV = {
    "PYTHONPATH": str(venvs.ROOT / "training" / "client"),
    "KERAS_BACKEND": "tensorflow",
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
}


@dataclass
class Trained:
    """`known` is what the script printed; `told` the records by their run, in the order of their coming."""

    known: dict[str, Any]
    told: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def of_kind(self, run: str, kind: str) -> list[dict[str, Any]]:
        return [record for record in self.told.get(run, []) if record["kind"] == kind]

    def steps(self, run: str) -> list[dict[str, Any]]:
        return self.of_kind(run, "train")

    def begins_after(self, step: dict[str, Any], aside: dict[str, Any]) -> bool:
        """Tell whether a step's time holds nothing of what lies before it, but for what half of that took."""
        return step["ended_seconds"] - step["seconds"] >= aside["ended_seconds"] - aside["seconds"] / 2

    def column(self, run: str, name: str) -> list[Any]:
        return [step[name] for step in self.steps(run)]


def trained(script: str, environment: str, directory: Path, *arguments: str) -> Trained:
    """Return how the script's trainings went. Skips where the environment is not installed."""
    python, path = venvs.require(environment), directory / "steps.sock"
    command = [python, Path(__file__).with_name(script), directory, *arguments]
    env = {**os.environ, **_ENV, "STEPWATT_SOCKET": str(path)}
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as agent,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own,
    ):
        agent.bind(str(path))
        frames: list[bytes] = []
        reader = threading.Thread(target=_read, args=(agent, frames))
        reader.start()
        try:
            done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=600)
        finally:
            own.sendto(_END, str(path))
            reader.join()
    assert done.returncode == 0, done.stderr
    result = Trained(json.loads(done.stdout.splitlines()[-1]))
    for frame in frames:
        head, record = datagram.read(frame)
        result.told.setdefault(head["run"], []).append(_told(head, record))
    return result


def _told(head: dict[str, Any], record: datagram.Record) -> dict[str, Any]:
    """Return the record in seconds and words, None for what is not told."""
    seconds = [None if ns == datagram.UNTOLD_NS else ns / 1e9 for ns in record.phases_ns]
    numbers = {name: getattr(record, name) for name in ("samples", "tokens", "loss")}
    return {
        **{name: None if math.isnan(value) else value for name, value in numbers.items()},
        **{name: head[name] for name in ("rank", "world_size", "launch")},
        "kind": StepKind(record.kind).name.lower(),
        "number": record.number,
        "ended_seconds": record.ended_ns / 1e9,
        "seconds": record.nanoseconds / 1e9,
        "phases": {name: each for name, each in zip(head.get("phases", []), seconds, strict=True) if each is not None},
    }


def _read(agent: socket.socket, frames: list[bytes]) -> None:
    while (frame := agent.recv(65_536)) != _END:
        frames.append(frame)
