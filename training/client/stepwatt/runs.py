"""A run as this process takes part in it: `stepwatt.run("llm-7b", …)`. What fails is left out, never raised."""

from __future__ import annotations

import atexit
import functools
import math
import os
import time
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from . import header, launcher, wire
from .agent_socket import AgentSocket
from .device_timing import DeviceTimer, event_maker
from .steps import Aside, Phase, Step
from .wire import MAX_PHASES, UNTOLD_NS, WARM_UP, number

_COMMUNICATION = ("communication", "allreduce", "all_reduce", "all-reduce", "sync")
_NAN = math.nan

_Batch = TypeVar("_Batch")
_Function = TypeVar("_Function", bound=Callable[..., Any])


class Run:
    """The run to which this process adds its steps. `dropped` counts those that no agent took.

    `samples_per_step` counts this rank's samples alone. `launch` names the run's start, the same on all its ranks and when
    it goes on after a restart; it, `rank` and `world_size` come from the launcher's environment (torchrun, Slurm, MPI,
    Accelerate) where not given. `flops_per_sample` counts forward and backward; without it the server takes a published
    formula where `model` tells {"parameters", "layers", "width", "sequence", …}. `dtype` is what it computes in ("bf16").
    `owner` and `group` say whose it is; else they are the process's user, and its Slurm account or Unix group.
    With `device_timing`, phases are timed on the GPU by CUDA events; each step is told one step late.
    """

    def __init__(
        self,
        name: str,
        *,
        samples_per_step: float | None = None,
        tokens_per_sample: float | None = None,
        flops_per_sample: float | None = None,
        dtype: str = "",
        model: Mapping[str, Any] | None = None,
        framework: str = "",
        launch: str | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        device_uuid: str = "",
        owner: str = "",
        group: str = "",
        device_timing: bool = False,
    ) -> None:
        place = launcher.place()
        self.name = wire.text(name, 200) or "unnamed"
        self.samples_per_step = number(samples_per_step)
        self.tokens_per_sample = number(tokens_per_sample)
        self.flops_per_sample = number(flops_per_sample)
        self.launch = launcher.launch_id(launch) or place.launch
        self.rank = wire.count(rank, place.rank)
        self.world_size = wire.count(world_size, place.world_size)
        self.restart = place.restart
        self.device_uuid = str(device_uuid)
        self.owner = wire.text(owner or os.environ.get("STEPWATT_OWNER", ""), 100)
        self.group = wire.text(group or launcher.group(), 100)
        self._about = {"dtype": str(dtype), "model": dict(model or {}), "framework": str(framework)}
        self._timer = DeviceTimer(event_maker(), self._send) if device_timing and event_maker() else None
        self.open_step: Step | None = None
        self._told: dict[str, object] = {}  # for the step that begins next
        self._steps = 0
        self._socket = AgentSocket()
        self.renew()
        _runs.add(self)

    def renew(self) -> None:
        """Be a process of its own, as after a fork: with an own name, an own count and an own socket."""
        self._process = uuid.uuid4().hex
        self._sequence = 0
        self._header = b""
        self._phases: list[str] = []
        self._record = wire.record(0)
        self._socket.reset()

    @property
    def dropped(self) -> int:
        return self._socket.dropped

    def step(self, number: int | None = None, *, is_warmup: bool = False) -> Step:
        """Return the next step, for a `with`. `number` where a run goes on from a checkpoint; else they count from 1."""
        self._steps = self._steps + 1 if number is None or not isinstance(number, int) else number
        step = Step(self, self._steps, is_warmup)
        if self._told:
            step.log(**self._told)
            self._told = {}
        if self._timer is not None:
            step.timer = self._timer
        return step

    def steps(self, batches: Iterable[_Batch], *, warm_up: int = 0) -> Iterator[_Batch]:
        """Yield the batches, with a step around each: waiting for one is its phase "data", and the next one ends it.

        The first `warm_up` are told as such. A step that a `break` or an error ends is not told.
        """
        source = iter(batches)
        while True:
            step = self.step(is_warmup=warm_up > 0).begin()
            try:
                with step.phase("data"):
                    batch = next(source)
            except StopIteration:
                self._steps -= 1
                self.forget(step)
                return
            warm_up -= 1
            yield batch
            step.end()

    def step_function(self, function: _Function) -> _Function:
        """Decorate a function of which each call is a step."""

        @functools.wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            with self.step():
                return function(*arguments, **named)

        return timed  # type: ignore[return-value]  # with the signature of the function

    def log(self, **told: object) -> None:
        """Note what the step that is under way, or else the next, has to tell: as Step.log."""
        known = {
            name: value for name, value in told.items() if name in {"loss", "samples", "tokens", "compute_seconds"}
        }
        if self.open_step is not None:
            self.open_step.log(**known)
        else:
            self._told.update(known)

    def phase(self, name: str) -> Phase | Aside:
        """Time a part of the step that is under way; outside of steps a "validation", a "checkpoint" or anything else."""
        return Aside(self, str(name)) if self.open_step is None else self.open_step.phase(name)

    def add(self, name: str, seconds: float) -> None:
        """Tell of something beside the steps, such as a validation or a checkpoint, that has just ended."""
        aside = Step(self, self._steps, is_warmup=False)
        aside.kind = wire.kind(str(name))
        aside.ended_ns = time.perf_counter_ns()
        aside.began_ns = aside.ended_ns - int((number(seconds) or 0.0) * 1e9)
        aside.samples = aside.tokens = _NAN
        aside.phases[str(name)] = number(seconds) or 0.0
        self.tell(aside)

    def forget(self, step: Step) -> None:
        """Take note that a step is over and not to be told."""
        if self.open_step is step:
            self.open_step = None

    def tell(self, step: Step) -> None:
        """Hand a finished step to the agent. Called by the step itself."""
        if self.open_step is step:
            self.open_step = None
        if step.timer is not None:
            step.timer.end(step)
        else:
            self._send(step)

    def _send(self, step: Step) -> None:
        sequence = self._sequence
        self._sequence = sequence + 1
        agent = self._socket
        is_away = step.ended_ns < agent.look_at_ns
        if is_away and not agent.is_missed:
            agent.dropped += 1
            return
        try:
            data = self._datagram(step, sequence)
        except Exception:  # noqa: BLE001 — the loop is not ours: nothing of this may reach it
            agent.dropped += 1
            return
        if is_away:
            agent.keep(data)
        else:
            agent.send(data)

    def _datagram(self, step: Step, sequence: int) -> bytes:
        samples = self.samples_per_step if step.samples is None else step.samples
        tokens = step.tokens
        if tokens is None and samples is not None and self.tokens_per_sample is not None:
            tokens = samples * self.tokens_per_sample
        nanoseconds = step.ended_ns - step.began_ns
        told = step.phases
        phases: list[int] = []
        if told or self._phases:
            if any(name not in self._phases for name in told):
                self._name_phases(told)
            phases = [int(told[name] * 1e9) if name in told else UNTOLD_NS for name in self._phases]
        compute = step.compute_seconds
        record = self._record.pack(
            sequence, self._socket.dropped, step.number, step.ended_ns, nanoseconds if nanoseconds > 0 else 1,
            int(compute * 1e9) if compute is not None else _compute_ns(nanoseconds, told) if told else UNTOLD_NS,
            _NAN if samples is None else samples, _NAN if tokens is None else tokens,
            _NAN if step.loss is None else step.loss, step.kind, WARM_UP if step.is_warmup else 0, *phases,
        )  # fmt: skip
        return (self._header or self._make_header()) + record

    def _name_phases(self, told: Mapping[str, float]) -> None:
        """Have the header name new phases, as long as there is room."""
        new = [name for name in told if name not in self._phases]
        self._phases += new[: MAX_PHASES - len(self._phases)]
        self._record = wire.record(len(self._phases))
        self._header = b""

    def _make_header(self) -> bytes:
        self._header = header.of_run(self, self._process, self._phases, self._about)
        return self._header

    def farewell(self) -> None:
        """Send what still waits, for a short time: the process ends."""
        if self._timer is not None:
            self._timer.flush()
        self._socket.farewell()


def _compute_ns(nanoseconds: int, phases: Mapping[str, float]) -> int:
    """Return the step without its communication, where that is told."""
    waits = [phases[name] for name in _COMMUNICATION if name in phases]
    return max(0, nanoseconds - int(sum(waits) * 1e9)) if waits else UNTOLD_NS


_runs: weakref.WeakSet[Run] = weakref.WeakSet()


def _renew_all() -> None:
    for each in list(_runs):
        each.renew()


def _farewell_all() -> None:
    for each in list(_runs):
        each.farewell()


os.register_at_fork(after_in_child=_renew_all)
atexit.register(_farewell_all)
