"""Measures a workload: warm-up left out, steps timed one by one, the result as N/Δt over one window. Called by `__main__`.

Knows no model and no framework: the workload's modules come in by name, when the job begins.
"""

import math
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

from training.reference import framework, surroundings
from training.reference.events import Events, StepSocket
from training.reference.measurement import Measurement, Repeat, WallClock, figures, of_repeats
from training.reference.order import CannotRun, Order
from training.reference.work import Device, Ranks, Work
from training.workloads.catalog import find
from training.workloads.workload import Workload

LOG_EVERY_STEPS = 10
PROGRESS_SECONDS = 1.0  # as often as the agent tells of it
_DEVICES = {"torch": "training.reference.device"}  # which module opens a device for a framework


class Loop:
    """Runs the steps of one order; timings leave through `send` and `events`, outside what is timed."""

    def __init__(
        self,
        order: Order,
        work: Work,
        device: Device,
        send: Callable[[dict[str, Any]], None],
        events: Events,
    ) -> None:
        self._order = order
        self._work = work
        self._device = device
        self._send = send
        self._events = events
        self.clock = WallClock()
        self._warmup: int = order.params["warmup_steps"]
        self._steps: int = order.params["steps"]
        self._repeats: int = order.params["repeats"]
        self._total = self._warmup + self._repeats * self._steps
        self._rank = order.meeting.rank if order.meeting else 0
        self._about_ranks = {"world_size": order.meeting.world_size} if order.meeting else {}
        self._progress_at = 0.0

    def run(self) -> Measurement:
        measurement = Measurement()
        self._events.stage("warm up")
        for number in range(1, self._warmup + 1):
            seconds, _ = self._step(number, measurement)
            measurement.first_seconds = measurement.first_seconds or seconds
        self._work.begin_measuring()
        compiled = self._device.compilations()
        before = surroundings.now()
        for repeat in range(self._repeats):
            measurement.repeats.append(self._measure(repeat, measurement))
        measurement.around = surroundings.between(before, surroundings.now(), measurement.window_seconds)
        if self._device.compilations() != compiled:
            raise CannotRun("something was compiled within the measured time; more warm-up steps keep that out")
        return measurement

    def _measure(self, repeat: int, measurement: Measurement) -> Repeat:
        """Run the block of measured steps once; all repeats follow the one warm-up."""
        self._events.stage("measure" if self._repeats == 1 else f"measure {repeat + 1} of {self._repeats}")
        self._device.synchronise()
        found = Repeat(time.perf_counter())
        first = self._warmup + repeat * self._steps + 1
        for number in range(first, first + self._steps):
            seconds, found.end = self._step(number, measurement)
            found.seconds.append(seconds)
        return found

    def _step(self, number: int, measurement: Measurement) -> tuple[float, float]:
        """Return (seconds of the step, perf_counter at its end)."""
        began = time.perf_counter()
        loss = self._work.step()
        self._device.synchronise()
        ended = time.perf_counter()
        if loss is not None:
            measurement.losses.append(loss)
        if (own := self._work.compute_seconds) is not None:
            measurement.compute_seconds.append(own)
        self._tell(number, loss, ended - began, ended)
        return ended - began, ended

    def _tell(self, number: int, loss: float | None, seconds: float, ended: float) -> None:
        work, is_warmup = self._work, number <= self._warmup
        tokens, samples = work.tokens_per_sample, work.batch_size
        is_told = self._rank == 0 or not work.is_common  # what all do together counts once
        self._send(
            {
                "run": self._order.run,
                "launch": self._order.launch,
                "number": number,
                "ended_ns": int(ended * 1e9),
                "seconds": seconds,
                "compute_seconds": work.compute_seconds,
                "rank": self._rank,
                **self._about_ranks,
                "device_uuid": self._order.device_uuid,
                "samples": samples if is_told else None,
                "tokens": None if tokens is None or not is_told else tokens * samples,
                "loss": loss if loss is not None and math.isfinite(loss) else None,
                "is_warmup": is_warmup,
            }
        )
        if ended - self._progress_at >= PROGRESS_SECONDS or number == self._total:
            self._progress_at = ended
            self._events.progress(number, self._total)
        if number == 1 or number % LOG_EVERY_STEPS == 0 or number == self._total:
            part = " (warm-up)" if is_warmup else ""
            learnt = "" if loss is None else f"loss {loss:.4f}, "
            say(f"step {number}/{self._total}: {learnt}{seconds * 1000:.1f} ms{part}")


def run(order: Order, events: Events) -> dict[str, Any]:
    """Do the job and return its result, all in base units. Raises CannotRun with the reason."""
    events.stage("join" if order.meeting else "build")
    say(f"{order.workload} on {order.device_kind} device {order.device_uuid}, {_words(order.params)}")
    workload = find(order.workload)
    with framework.loaded(workload.framework):
        devices = import_module(_DEVICES[workload.framework])
        device: Device = devices.open_device(order)
        with device.ranks.together():
            return _measure(order, workload, device, events)


def _measure(order: Order, workload: Workload, device: Device, events: Events) -> dict[str, Any]:
    if order.meeting:
        events.stage("build")
        say(f"rank {device.ranks.rank} of {device.ranks.world_size}, {device.ranks.backend}")
    work: Work = import_module(f"training.reference.{workload.module}").build(device, order.params)
    parameters = "" if work.parameters is None else f", {work.parameters:,} parameters"
    say(f"{work.model}{parameters}, batch {work.batch_size}, {device.precision}, on {device.name}")
    say(f"data: {work.data}")
    socket = StepSocket(order.socket_path)
    loop = Loop(order, work, device, socket.send, events)
    measurement = loop.run()
    events.stage("finish")
    socket.close()
    verdict = work.verify(device.ranks.means(measurement.losses))
    say(", ".join(f"{name} {value}" for name, value in verdict.items()))
    peak_bytes, peak_method = device.peak_memory()
    shares = _shares(device.ranks, work)
    return {
        **figures(measurement, work, loop.clock, shares),
        **of_repeats(measurement, work, shares),
        **_of_ranks(device.ranks, work, measurement),
        **measurement.around,
        **verdict,
        **work.figures(),
        **{name: order.params[name] for name in ("warmup_steps", "compile", "size", "seed")},
        "first_step_seconds": measurement.first_seconds,
        "compiled_programs": device.compilations(),
        "precision": device.precision,
        "device_name": device.name,
        "threads": device.threads,
        "peak_memory_bytes": peak_bytes,
        "peak_memory_method": peak_method,
        "dropped_step_frames": socket.dropped,
        "versions": import_module(_DEVICES[workload.framework]).versions(order),
    }


def _shares(ranks: Ranks, work: Work) -> int:
    """Return how many ranks' samples a result counts: rank 0's is the whole job's, another's its own."""
    return ranks.world_size if ranks.rank == 0 and not work.is_common else 1


def _of_ranks(ranks: Ranks, work: Work, measurement: Measurement) -> dict[str, Any]:
    """Return what the result of a rank of a distributed job says besides."""
    if ranks.world_size == 1:
        return {}
    own = measurement.compute_seconds[-len(measurement.seconds) :]
    return {
        "ranks": ranks.world_size,
        "rank": ranks.rank,
        "backend": ranks.backend,
        "batch_size_of_a_rank": work.batch_size,
        "compute_seconds_median": statistics.median(own) if own else None,
    }


def say(text: str) -> None:
    """Write a line of the job's log, with its time in UTC."""
    now = datetime.now(UTC)
    print(f"{now:%H:%M:%S}.{now.microsecond // 1000:03d} {text}", flush=True)  # noqa: T201 — standard output is the job's log


def _words(params: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in params.items())
