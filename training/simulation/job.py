"""A reference training as a simulated GPU does it: its steps on the clock, their losses, its result. No Django, no torch.

Made up, to be compared with each other alone: on a sound GPU a step takes the same whatever the workload, the batch and the
board; the losses follow from workload and seed, as they do on real devices. What is wrong with the GPU shows in both.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any

from telemetry.simulation.gpu import Gpu
from training.message.wire import JobOrder

_STEP_SECONDS = 0.2
_BUILD_SECONDS = 2.0  # until the first step: the program begins, the model is made
_FIRST_STEP = 8.0  # times as long as another
_RUN_SPREAD, _STEP_SPREAD = 0.002, 0.003  # of a run's steps about those of other runs, and of a step about its run's
_LOSS_START, _LOSS_END, _LOSS_STEPS, _LOSS_NOISE = 10.9, 6.0, 12.0, 0.004
_ROUNDING = 1e-6  # sums in another order
_WRONG = 0.05  # of the first loss, where the GPU computes wrongly
_BATCH_SIZE = 16


@dataclass(frozen=True, slots=True)
class Step:
    """`ended` is UTC seconds; `number` counts from 1, warm-up included."""

    number: int
    ended: float
    seconds: float
    loss: float
    is_warmup: bool


@dataclass(slots=True)
class Training:
    """`params` are complete; `began` is UTC seconds. `gpu` is asked at each step how it is."""

    order: JobOrder
    params: Mapping[str, int | str]
    gpu: Gpu
    began: float
    steps: list[Step] = field(default_factory=list)
    _pace: float = field(init=False)  # seconds of a step, as this process came out

    def __post_init__(self) -> None:
        choose = random.Random(f"{self.order.launch}/{self.order.job}")  # noqa: S311 — a simulation is to be repeatable
        self._pace = _STEP_SECONDS * choose.gauss(1.0, _RUN_SPREAD)

    @property
    def n_warmup(self) -> int:
        return int(self.params["warmup_steps"])

    @property
    def n_steps(self) -> int:
        """All of them, warm-up included. Repeats are more steps of one run."""
        return self.n_warmup + int(self.params["steps"]) * int(self.params["repeats"])

    @property
    def is_done(self) -> bool:
        return len(self.steps) >= self.n_steps

    @property
    def stage(self) -> str:
        """Name the stage as a real job does."""
        if not self.steps:
            return "build"
        return "warm up" if len(self.steps) < self.n_warmup else "measure"

    @property
    def batch_size(self) -> int:
        return int(self.params["batch_size"]) or _BATCH_SIZE

    def go_on(self, until: float) -> list[Step]:
        """Return the steps that end until then, each once, as long as the GPU now makes them."""
        taken = []
        while not self.is_done:
            step = self._next()
            if step.ended > until:
                break
            self.steps.append(step)
            taken.append(step)
        return taken

    def _next(self) -> Step:
        number = len(self.steps) + 1
        choose = random.Random(f"{self.order.launch}/{self.order.job}/{number}")  # noqa: S311
        factor = _FIRST_STEP if number == 1 else choose.gauss(1.0, _STEP_SPREAD)
        seconds = self._pace * factor * self.gpu.lengthening
        before = self.steps[-1].ended if self.steps else self.began + _BUILD_SECONDS
        return Step(number, before + seconds, seconds, self._loss(number, choose), number <= self.n_warmup)

    def _loss(self, number: int, choose: random.Random) -> float:
        """Return what every sound device has at that step with the same seed, but for its rounding."""
        noise = random.Random(f"{self.order.workload}/{self.params['seed']}/{number}").gauss(1.0, _LOSS_NOISE)  # noqa: S311
        mean = _LOSS_END + (_LOSS_START - _LOSS_END) * math.pow(1 + number / _LOSS_STEPS, -0.6)
        wrong = _WRONG * _LOSS_START if self.gpu.condition.is_corrupt else 0.0
        return mean * noise * choose.gauss(1.0, _ROUNDING) + wrong

    def result(self, versions: Mapping[str, str]) -> dict[str, Any]:
        """Return the result of a training that is done; what a simulated one has not is missing in it: FLOPs, memory, cores."""
        measured = self.steps[self.n_warmup :]
        seconds = [step.seconds for step in measured]
        start, end = measured[0].ended - seconds[0], measured[-1].ended
        samples = len(measured) * self.batch_size
        return {
            "model": "simulated",
            "data": "none: no model is trained",
            "flops_method": "not counted: no model is trained",
            "batch_size": self.batch_size,
            "measured_steps": len(measured),
            "measured_seconds": end - start,
            "samples": samples,
            "samples_per_second": samples / (end - start),
            "window_start_ms": round(start * 1000),
            "window_end_ms": round(end * 1000),
            "step_seconds_median": median(seconds),
            "step_seconds_p95": quantiles(seconds, n=20)[-1],
            "first_step_seconds": self.steps[0].seconds,
            "loss_start": self.steps[0].loss,
            "loss_end": self.steps[-1].loss,
            **{name: self.params[name] for name in ("warmup_steps", "compile", "size", "seed") if name in self.params},
            "precision": "bf16" if self.params["precision"] == "auto" else self.params["precision"],
            "device_name": self.gpu.board.name,
            "versions": dict(versions),
        }
