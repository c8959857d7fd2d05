"""Measures a training: warm-up left out, steps timed one by one, the result as N/Δt over one window. Called by `__main__`.

Knows no model; torch comes in through the device and the workloads, which are imported when the job begins.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from training.flops import Flops
from training.reference.data import BATCHES
from training.reference.events import Events, StepSocket
from training.reference.order import CannotRun, Order

LOG_EVERY_STEPS = 10
PROGRESS_SECONDS = 0.2


class Training(Protocol):
    """A workload built on its device. `tokens_per_sample` is None where samples are no token sequences."""

    model: str
    parameters: int
    batch_size: int
    tokens_per_sample: int | None
    flops: Flops
    data: str

    def step(self) -> float:
        """Do one optimiser step and return the loss of its batch."""


class WallClock:
    """UTC for readings of the monotonic clock, anchored once: a wall clock that is set during a job moves nothing."""

    def __init__(self) -> None:
        self._offset_seconds = time.time() - time.perf_counter()

    def utc_ms(self, monotonic_seconds: float) -> int:
        return round((monotonic_seconds + self._offset_seconds) * 1000)


@dataclass
class Measurement:
    """What the loop took down: losses of all steps, durations of the measured ones, and their window (perf_counter)."""

    losses: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    window_start: float = 0.0
    window_end: float = 0.0


class Loop:
    """Runs the steps of one order; timings leave through `send` and `events`, outside what is timed."""

    def __init__(
        self,
        order: Order,
        training: Training,
        synchronise: Callable[[], None],
        send: Callable[[dict[str, Any]], None],
        events: Events,
    ) -> None:
        self._order = order
        self._training = training
        self._synchronise = synchronise
        self._send = send
        self._events = events
        self.clock = WallClock()
        self._warmup: int = order.params["warmup_steps"]
        self._total: int = self._warmup + order.params["steps"]
        self._progress_at = 0.0

    def run(self) -> Measurement:
        measurement = Measurement()
        self._events.stage("warm up")
        for number in range(1, self._warmup + 1):
            self._step(number, measurement)
        self._events.stage("measure")
        self._synchronise()
        measurement.window_start = measurement.window_end = time.perf_counter()
        for number in range(self._warmup + 1, self._total + 1):
            seconds, measurement.window_end = self._step(number, measurement)
            measurement.seconds.append(seconds)
        return measurement

    def _step(self, number: int, measurement: Measurement) -> tuple[float, float]:
        """Return (seconds of the step, perf_counter at its end)."""
        began = time.perf_counter()
        loss = self._training.step()
        self._synchronise()
        ended = time.perf_counter()
        measurement.losses.append(loss)
        self._tell(number, loss, ended - began, ended)
        return ended - began, ended

    def _tell(self, number: int, loss: float, seconds: float, ended: float) -> None:
        training, is_warmup = self._training, number <= self._warmup
        tokens = training.tokens_per_sample
        self._send(
            {
                "run": self._order.run,
                "launch": self._order.launch,
                "number": number,
                "ended_ns": int(ended * 1e9),
                "seconds": seconds,
                "rank": 0,
                "device_uuid": self._order.device_uuid,
                "samples": training.batch_size,
                "tokens": None if tokens is None else tokens * training.batch_size,
                "loss": loss if math.isfinite(loss) else None,
                "is_warmup": is_warmup,
            }
        )
        if ended - self._progress_at >= PROGRESS_SECONDS or number == self._total:
            self._progress_at = ended
            self._events.progress(number, self._total)
        if number == 1 or number % LOG_EVERY_STEPS == 0 or number == self._total:
            part = " (warm-up)" if is_warmup else ""
            say(f"step {number}/{self._total}: loss {loss:.4f}, {seconds * 1000:.1f} ms{part}")


def run(order: Order, events: Events) -> dict[str, Any]:
    """Do the job and return its result, all in base units. Raises CannotRun with the reason."""
    events.stage("build")
    say(f"{order.workload} on {order.device_kind} device {order.device_uuid}, {_words(order.params)}")
    import torch

    from training.reference import device as devices
    from training.reference.gpt import GptTraining
    from training.reference.resnet import ResNetTraining

    device = devices.open_device(order)
    torch.manual_seed(order.params["seed"])
    builders: dict[str, Callable[..., Training]] = {"resnet-train": ResNetTraining, "gpt-train": GptTraining}
    training = builders[order.workload](device, order.params["batch_size"], order.params["seed"])
    say(
        f"{training.model}, {training.parameters:,} parameters, batch {training.batch_size}, {device.precision}, on {device.name}"
    )
    say(f"data: {training.data}")
    socket = StepSocket(order.socket_path)
    loop = Loop(order, training, device.synchronise, socket.send, events)
    measurement = loop.run()
    events.stage("finish")
    socket.close()
    peak_bytes, peak_method = device.peak_memory()
    return {
        **figures(measurement, training, loop.clock),
        **losses(measurement.losses),
        "warmup_steps": order.params["warmup_steps"],
        "seed": order.params["seed"],
        "precision": device.precision,
        "device_name": device.name,
        "threads": device.threads,
        "peak_memory_bytes": peak_bytes,
        "peak_memory_method": peak_method,
        "dropped_step_frames": socket.dropped,
        "versions": devices.versions(order),
    }


def figures(measurement: Measurement, training: Training, clock: WallClock) -> dict[str, Any]:
    """Return the figures of speed: N/Δt over the window from the first measured step's start to the last one's end."""
    steps = len(measurement.seconds)
    samples = steps * training.batch_size
    window_seconds = measurement.window_end - measurement.window_start
    tokens = training.tokens_per_sample
    ordered = sorted(measurement.seconds)
    return {
        "model": training.model,
        "parameters": training.parameters,
        "batch_size": training.batch_size,
        "data": training.data,
        "measured_steps": steps,
        "measured_seconds": window_seconds,
        "samples": samples,
        "window_start_ms": clock.utc_ms(measurement.window_start),
        "window_end_ms": clock.utc_ms(measurement.window_end),
        "samples_per_second": samples / window_seconds,
        "tokens_per_second": None if tokens is None else samples * tokens / window_seconds,
        "step_seconds_median": statistics.median(ordered),
        "step_seconds_p95": ordered[math.ceil(0.95 * steps) - 1],
        "flops_per_sample": training.flops.count,
        "flops_method": training.flops.method,
        "achieved_flops_per_second": training.flops.count * samples / window_seconds,
    }


def losses(values: Sequence[float]) -> dict[str, Any]:
    """Return the loss at start and end. Raises CannotRun where it did not fall: such a job trained nothing.

    Both are means over the same batches (the first and the last pass), so that their difference is what was learnt and no
    difference of the data. Warm-up counts, since learning begins with the first step.
    """
    start, end = statistics.fmean(values[:BATCHES]), statistics.fmean(values[-BATCHES:])
    say(f"loss {start:.4f} at start, {end:.4f} at end")
    if not end < start:
        raise CannotRun(
            f"the loss did not fall: {start:.4f} at start, {end:.4f} at end, so the result is not to be trusted"
        )
    return {
        "loss_start": start,
        "loss_end": end,
        "loss_method": f"means of the first {BATCHES} steps, warm-up included, and of the last {BATCHES}: the same batches",
    }


def say(text: str) -> None:
    """Write a line of the job's log, with its time in UTC."""
    now = datetime.now(UTC)
    print(f"{now:%H:%M:%S}.{now.microsecond // 1000:03d} {text}", flush=True)  # noqa: T201 — standard output is the job's log


def _words(params: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in params.items())
