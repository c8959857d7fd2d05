"""Runs and their steps: what a training loop touches. Every call is safe: what fails is left out, never raised.

A frame carries what the agent's wire knows of a step. Phases are measured and can be read (`step.phases`), but do not
travel yet; nor do `flops_per_sample` and the world size.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from . import launcher
from .agent_socket import AgentSocket

VERSION = 1  # of the frame: training/wire.py of the server reads it
_CONTROL = re.compile(r"[\x00-\x1f]")
_MAX_NAME = 200


class Run:
    """The run to which this process adds its steps: `stepwatt.run("llm-7b", …)`. `dropped` counts those that no agent took.

    `samples_per_step` counts this rank's samples alone. `launch` names one start of the run, the same on all its ranks;
    it, `rank` and `world_size` come from the launcher's environment (torchrun, Slurm, MPI, Accelerate) where not given.
    """

    def __init__(
        self,
        name: str,
        *,
        samples_per_step: float | None = None,
        tokens_per_sample: float | None = None,
        flops_per_sample: float | None = None,
        launch: str | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        device_uuid: str = "",
    ) -> None:
        place = launcher.place()
        self.name = _CONTROL.sub(" ", str(name))[:_MAX_NAME] or "unnamed"
        self.samples_per_step = number(samples_per_step)
        self.tokens_per_sample = number(tokens_per_sample)
        self.flops_per_sample = number(flops_per_sample)
        self.launch = launcher.launch_id(launch) or place.launch
        self.rank = place.rank if rank is None else rank
        self.world_size = place.world_size if world_size is None else world_size
        self.device_uuid = str(device_uuid)
        self._steps = 0
        self._socket = AgentSocket()

    @property
    def dropped(self) -> int:
        return self._socket.dropped

    def step(self, number: int | None = None, *, is_warmup: bool = False) -> Step:
        """Return the next step, for a `with`. `number` where a run goes on from a checkpoint; else they count from 1."""
        self._steps = number if isinstance(number, int) else self._steps + 1
        return Step(self, self._steps, is_warmup)

    def send(self, step: Step, seconds: float) -> None:
        """Hand a finished step to the agent. Called by the step itself."""
        samples = self.samples_per_step if step.samples is None else step.samples
        tokens = step.tokens
        if tokens is None and samples is not None and self.tokens_per_sample is not None:
            tokens = samples * self.tokens_per_sample
        self._socket.send(
            {
                "v": VERSION,
                "run": self.name,
                "launch": self.launch,
                "number": step.number,
                "ended_ms": int(time.time() * 1000),
                "seconds": seconds,
                "rank": self.rank,
                "device_uuid": self.device_uuid,
                "samples": samples,
                "tokens": tokens,
                "loss": step.loss,
                "is_warmup": step.is_warmup,
                "kind": step.kind,
                "phases": step.phases,
            }
        )

    def add(self, name: str, seconds: float) -> None:
        """Tell of something beside the steps, such as a validation or a checkpoint, that has just ended."""
        step = Step(self, self._steps, is_warmup=False)
        step.kind, step.samples, step.tokens = str(name), 0, 0
        self.send(step, seconds)


run = Run  # what a training loop calls: one signature, which editors and help() show for both names


class Step:
    """One step of the loop, timed from `with` to its end. One that ends by an exception is not told."""

    def __init__(self, run: Run, number: int, is_warmup: bool) -> None:
        self._run = run
        self.number = number
        self.is_warmup = is_warmup
        self.samples: float | None = None
        self.tokens: float | None = None
        self.loss: float | None = None
        self.kind = "train"
        self.phases: dict[str, float] = {}
        self._began = time.perf_counter()
        self._seconds: float | None = None
        self._is_told = False

    def log(self, *, loss: object = None, samples: object = None, tokens: object = None) -> None:
        """Note what the step has to tell. Plain numbers only: to read a tensor would wait for its device."""
        self.loss = number(loss, self.loss)
        self.samples = number(samples, self.samples)
        self.tokens = number(tokens, self.tokens)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a part of the step, such as "forward"; parts of one name add up. The clock is the loop's own."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.phases[str(name)] = self.phases.get(str(name), 0.0) + time.perf_counter() - began

    def add_phase(self, name: str, seconds: float) -> None:
        """Add time to a part of the step, where its begin and its end lie in different calls."""
        self.phases[str(name)] = self.phases.get(str(name), 0.0) + seconds

    def begin(self) -> Step:
        """Begin the step where no `with` can hold it; `end` ends it."""
        self._began = time.perf_counter()
        return self

    def stop(self) -> None:
        """Take the step's time, and let it wait for `end`: what is told of it may come later."""
        if self._seconds is None:
            self._seconds = time.perf_counter() - self._began

    def end(self) -> None:
        """Take the step's time and hand it to the agent, once."""
        self.stop()
        if not self._is_told:
            self._is_told = True
            self._run.send(self, self._seconds or 0.0)

    def __enter__(self) -> Step:  # noqa: PYI034 — typing.Self is of Python 3.11
        return self.begin()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if kind is None:
            self.end()


def number(value: object, default: float | None = None) -> float | None:
    """Return a plain finite number; `default` for anything else."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return value if math.isfinite(value) else default
        except OverflowError:  # an int beyond what a float holds
            return default
    return default
