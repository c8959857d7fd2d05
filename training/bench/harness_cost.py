"""What harness and agent cost a training: its throughput beside that of the same model and batch in a bare loop.

A real agent runs a job whose process (paired_loops.py) drives one model in turns, by a bare loop and by the harness; while the
bare loop has it, the agent is stopped (SIGSTOP), so that its sampling and listening count as cost. A stretch takes two seconds,
and begins once a tick that the agent missed is made up for; those of the harness are one job, as its steps are.
STEPWATT_BENCH_PAIRS is how many pairs of stretches are run (40); STEPWATT_BENCH_WORKLOADS which trainings.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from celery import Celery

from fleet.joining import server_key
from fleet.settings import BASE_DIR
from fleet.up.processes import agent_command
from telemetry.agent.membership import enrol_here
from telemetry.bench.agent_wire import sent_by
from telemetry.bench.figure import BenchFailed, Figure
from telemetry.bench.own_server import Server, environment, own_server, wait_until
from telemetry.bench.process_cost import cpu_seconds_of
from telemetry.broker.transport import CELERY_OPTIONS
from telemetry.message.envelope import seal_order
from telemetry.message.wire import INGEST_QUEUE, DeviceInfo, DeviceKind, host_queue
from training.bench.paired_loops import BARE, HARNESS, N_WARM_UP_STRETCHES
from training.ladder.speedup import Speedup, speedup
from training.message import wire
from training.workloads.catalog import WORKLOADS, validate

PAIRS = 40
LEAST_SHARE = 0.99
_HOST = "bench"
_START_SECONDS, _ANSWER_SECONDS, _LIMIT_SECONDS = 60.0, 300.0, 7_200
_SETTLE_SECONDS = 0.5  # before each stretch: an agent that was stopped has a tick and a batch to make up for
_TRAININGS = tuple(name for name, workload in WORKLOADS.items() if workload.is_training)


def run(directory: Path) -> list[Figure]:
    """Return the figures. Raises BenchFailed."""
    n_pairs = int(os.environ.get("STEPWATT_BENCH_PAIRS") or PAIRS)
    asked = [name.strip() for name in os.environ.get("STEPWATT_BENCH_WORKLOADS", "").split(",") if name.strip()]
    if unknown := sorted(set(asked) - set(_TRAININGS)):
        raise BenchFailed(
            f"STEPWATT_BENCH_WORKLOADS: {', '.join(unknown)}: no training; there are {', '.join(_TRAININGS)}"
        )
    size = os.environ.get("STEPWATT_BENCH_SIZE") or "auto"
    with own_server(directory) as server, _gate(directory) as gate:
        interpreter = _interpreter(directory, n_pairs)
        return [
            figure
            for number, name in enumerate(asked or _TRAININGS, 1)
            for figure in _figures(name, _measured(server, interpreter, gate, number, name, size))
        ]


def _figures(name: str, told: Mapping[str, Any]) -> list[Figure]:
    bare, harness = zip(*told["seconds"], strict=True)
    rates = [told["n_steps"] * told["batch_size"] * len(each) / sum(each) for each in (harness, bare)]
    stretches = f"{len(bare)} pairs of {told['n_steps']} steps"
    bare_cpu, harness_cpu = zip(*told["cpu_seconds"], strict=True)
    others = told["foreign_cores"]
    return [
        _share(f"{name}, batch {told['batch_size']}: throughput over the bare loop's, {stretches}", bare, harness),
        Figure("the same: samples per second", rates[0], "per second", "bare loop", rates[1]),
        _share("the same by CPU time of the job's process", bare_cpu, harness_cpu),
        Figure("the same: the harness for itself, CPU time of a step", told["own_seconds_a_step"] * 1e6, "µs"),
        Figure("the same: the agent beside the harness", told["agent_cpu_seconds"] / sum(harness), "cores"),
        *([] if others is None else [Figure("the same: others, the agent among them, kept busy", others, "cores")]),
    ]


def _share(words: str, bare: Sequence[float], harness: Sequence[float]) -> Figure:
    found = speedup(bare, harness)
    if found is None or found.low is None or found.high is None:
        raise BenchFailed(f"{len(bare)} pairs are too few for an interval")
    between = f"at least {LEAST_SHARE:g}; 95 %: {found.low:.4f} to {found.high:.4f}"
    return Figure(words, found.k, "", target=between, met=_is_met(found))


def _is_met(found: Speedup) -> bool | None:
    """Judge only by an interval that lies on one side of the demand, or by one that is narrower than what is demanded."""
    if found.low is None or found.high is None:
        return None
    is_narrow = found.high - found.low <= 2 * (1 - LEAST_SHARE)
    if is_narrow or found.low >= LEAST_SHARE or found.high < LEAST_SHARE:
        return found.k >= LEAST_SHARE
    return None


def _interpreter(directory: Path, n_pairs: int) -> Path:
    """Return what the agent takes for the jobs' interpreter: it leaves out the job's own start."""
    path = directory / "python"
    words = (
        f"cd '{BASE_DIR}' && shift 1 && unset PYTHONSAFEPATH && exec '{sys.executable}' -m training.bench.paired_loops"
    )
    path.write_text(f"#!/bin/sh\n{words} '{directory / 'gate'}' {n_pairs} \"$@\"\n")
    path.chmod(0o755)
    return path


@contextmanager
def _gate(directory: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as gate:
        gate.bind(str(directory / "gate"))
        gate.listen()
        gate.settimeout(_ANSWER_SECONDS)
        yield gate


@contextmanager
def _agent(server: Server, interpreter: Path, number: int) -> Iterator["subprocess.Popen[bytes]"]:
    """Run an agent that has joined; it samples what this machine has."""
    directory = server.directory / f"agent-{number}"
    enrol_here(directory / "agent", _HOST, server.broker_url, server_key.public_bytes())
    own = environment(directory, server.broker_url) | {"STEPWATT_JOB_PYTHON": str(interpreter)}
    with (server.directory / "agent.log").open("wb") as log:
        process = subprocess.Popen(agent_command("run"), cwd=BASE_DIR, env=own, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(_START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _device(server: Server) -> DeviceInfo:
    """Return the device that a job would get on this machine, from the agent's own batches."""

    def devices() -> list[DeviceInfo]:
        messages: list[bytes] = server.queue.lrange(INGEST_QUEUE, 0, -1)  # type: ignore[assignment]  # redis-py's two-way hints
        return [device for sent in sent_by(_HOST, messages) for device in sent.batch.devices]

    wait_until(
        lambda: any(each.kind == DeviceKind.CPU for each in devices()), _START_SECONDS, "the agent's first batch"
    )
    found = devices()
    accelerators = (each for each in found if each.kind == DeviceKind.NVIDIA)
    return next(accelerators, next(each for each in found if each.kind == DeviceKind.CPU))


def _measured(
    server: Server, interpreter: Path, gate: socket.socket, number: int, name: str, size: str
) -> dict[str, Any]:
    """Have an agent run the training, stop it for the bare loop's stretches, and return what the job's process measured."""
    with _agent(server, interpreter, number) as agent:
        _order(server, _device(server), number, name, size)
        try:
            connection, _ = gate.accept()
        except TimeoutError as error:
            raise BenchFailed(f"{name}: the job did not begin: {_log(server)}") from error
        with connection, connection.makefile("rw") as lines:
            connection.settimeout(_ANSWER_SECONDS)
            return _told(name, lines, agent)


def _told(name: str, lines: TextIO, agent: "subprocess.Popen[bytes]") -> dict[str, Any]:
    """Answer the job's process before each stretch, and add up the agent's CPU time in those of the harness."""
    spent, before = 0.0, None
    for n_before, line in enumerate(lines):
        if before is not None:
            spent += cpu_seconds_of(agent.pid) - before
        if line.startswith("{"):
            told: dict[str, Any] = json.loads(line)
            return told | {"agent_cpu_seconds": spent}
        side = line.strip()
        agent.send_signal(signal.SIGSTOP if side == BARE else signal.SIGCONT)
        time.sleep(_SETTLE_SECONDS)
        is_counted = side == HARNESS and n_before >= N_WARM_UP_STRETCHES
        before = cpu_seconds_of(agent.pid) if is_counted else None
        lines.write("\n")
        lines.flush()
    raise BenchFailed(f"{name}: the job ended before its measurement")


def _order(server: Server, device: DeviceInfo, number: int, name: str, size: str) -> None:
    expires_ms = int(time.time() * 1000) + 600_000
    order = wire.JobOrder(
        number, "bench", _HOST, name, validate(name, {"size": size})[1], device.uuid, expires_ms, _LIMIT_SECONDS
    )
    payload = seal_order(server_key.private(), wire.START_TASK, _HOST, wire.pack(order), expires_ms)
    app = Celery(broker=server.broker_url, set_as_current=False, fixups=[])
    app.conf.update(CELERY_OPTIONS)
    app.send_task(wire.START_TASK, [payload], queue=host_queue(_HOST), argsrepr="")


def _log(server: Server) -> str:
    return (server.directory / "agent.log").read_text(errors="replace")[-500:]
