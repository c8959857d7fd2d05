"""A simulated fleet: which host does what, what goes wrong, and when each of them samples and sends.

Called by the upper package, which enrols the hosts and sends what they make. No Django, no threads: one loop ticks all.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple
from uuid import uuid4

from telemetry.agent.batching import machine_digest
from telemetry.agent.names import Names, Parcel
from telemetry.message.wire import Cargo
from telemetry.simulation.boards import BOARDS
from telemetry.simulation.faults import Fault, faults
from telemetry.simulation.host import Host
from telemetry.simulation.load import Inference, Nothing, Task
from telemetry.simulation.machine import Machine
from telemetry.simulation.plans import PLANS
from telemetry.simulation.training import TrainingRun

MAX_HOSTS, MAX_GPUS = 5000, 16
SAMPLE_SECONDS, BATCH_TICKS = 1.0, 5
STRAGGLER_CLOCK = 0.86
_TRAINING_SHARE, _INFERENCE_SHARE = 0.6, 0.25


class Pace(NamedTuple):
    """How far samples lie apart, and how many of them go together."""

    sample_seconds: float
    batch_ticks: int


LIVE = Pace(SAMPLE_SECONDS, BATCH_TICKS)
PAST = Pace(30.0, 20)  # what a day costs is mostly its samples


@dataclass(frozen=True, slots=True)
class Shape:
    """What the user asked for. `model` is a key of BOARDS; `has_instances`: hosts that serve have MIG instances."""

    n_hosts: int
    n_gpus: int
    model: str = "h100"
    prefix: str = "sim"
    seed: int = 1
    has_instances: bool = False

    def host_names(self) -> list[str]:
        return [f"{self.prefix}-{number:04}" for number in range(1, self.n_hosts + 1)]


@dataclass(frozen=True, slots=True)
class RunPlace:
    """A run and the hosts it spans, by their place in the fleet; ranks count through hosts and their GPUs."""

    run: TrainingRun
    hosts: range


class Fleet:
    """`clock` gives UTC seconds, and may run faster than time; `submit` takes each batch.

    `names(host, machine)` gives a host's batches their names, as a spool does; `cargo(place)` what goes along with a batch of
    the host at that place. Until `past_until` it samples at the pace of PAST, and is told by `arrive` when it has got there.
    """

    def __init__(
        self,
        shape: Shape,
        clock: Callable[[], float],
        submit: Callable[[Parcel], None],
        names: Callable[[str, str], Names] = lambda host, _: Names(uuid4().hex, host=host),
        cargo: Callable[[int], Cargo] = lambda _: {},
        *,
        past_until: float = 0.0,
    ) -> None:
        self.shape, self._clock = shape, clock
        self.pace = PAST if past_until else LIVE
        start = clock()
        self.runs = _runs(shape, start)
        tasks = _tasks(shape, self.runs)
        self.machines = [
            _machine(shape, name, task, clock) for name, task in zip(shape.host_names(), tasks, strict=True)
        ]
        self.hosts = [
            _host(machine, clock, submit, self.pace, names, partial(cargo, place))
            for place, machine in enumerate(self.machines)
        ]
        self.straggler = _straggler(shape, len(self.runs[0].hosts))
        if self.straggler:
            host, gpu = self.straggler
            self.machines[host].gpus[gpu].condition.clock = STRAGGLER_CLOCK
        self._faults: Iterator[Fault] = faults(f"{shape.seed}/faults", start, shape.n_hosts, shape.n_gpus, past_until)
        self._next_fault = next(self._faults)
        self._n_ticks = 0

    def tick(self) -> None:
        """Take one sample of every host, and let some of them send what they have: each once in a batch's ticks."""
        now = self._clock()
        while self._next_fault.start <= now:
            self.machines[self._next_fault.host].suffer(self._next_fault)
            self._next_fault = next(self._faults)
        self._n_ticks += 1
        for place, (machine, host) in enumerate(zip(self.machines, self.hosts, strict=True)):
            if now < machine.silent_until:
                continue
            host.tick()
            if (self._n_ticks + place) % self.pace.batch_ticks == 0:
                host.send()

    def arrive(self) -> None:
        """Live from now on: what was made of the past is sent."""
        self.pace = LIVE
        for host in self.hosts:
            host.sample_every(LIVE.sample_seconds)

    def end(self) -> None:
        """Let every host send what it still has."""
        for host in self.hosts:
            host.send()


def _machine(shape: Shape, name: str, task: Task, clock: Callable[[], float]) -> Machine:
    has_instances = shape.has_instances and isinstance(task, Inference)
    seed = f"{shape.seed}/{name}"
    return Machine(name, BOARDS[shape.model], shape.n_gpus, task, clock, seed, has_instances=has_instances)


def _host(
    machine: Machine,
    clock: Callable[[], float],
    submit: Callable[[Parcel], None],
    pace: Pace,
    names: Callable[[str, str], Names],
    cargo: Callable[[], Cargo],
) -> Host:
    digest = machine_digest(machine.host)
    named = names(machine.host, digest)
    return Host(machine, clock, submit, pace.sample_seconds, names=named, digest=digest, cargo=cargo)


def _straggler(shape: Shape, n_hosts: int) -> tuple[int, int] | None:
    """Return (host, GPU) of the worn one: the last GPU of the first run, if it has others to hold up."""
    return (n_hosts - 1, shape.n_gpus - 1) if n_hosts * shape.n_gpus > 1 else None


def _runs(shape: Shape, start: float) -> list[RunPlace]:
    left = max(1, round(shape.n_hosts * _TRAINING_SHARE))
    places, first = [], 0
    for number, plan in enumerate(PLANS):
        is_last = number == len(PLANS) - 1
        n_hosts = left if is_last else (left + 1) // 2
        if not n_hosts:
            break
        slowest = 1 / STRAGGLER_CLOCK if number == 0 and _straggler(shape, n_hosts) else 1.0
        launch = f"{shape.prefix}-{shape.seed}-{round(start * 1000)}"
        run = TrainingRun(plan, launch, start, f"{shape.seed}/{plan.name}", slowest=slowest)
        places.append(RunPlace(run, range(first, first + n_hosts)))
        first, left = first + n_hosts, left - n_hosts
    return places


def _tasks(shape: Shape, places: list[RunPlace]) -> list[Task]:
    tasks: list[Task] = [place.run for place in places for _ in place.hosts]
    n_left = shape.n_hosts - len(tasks)
    n_serving = min(n_left, max(1, round(shape.n_hosts * _INFERENCE_SHARE))) if n_left else 0
    tasks += [Inference(f"{shape.seed}/serve/{number}") for number in range(n_serving)]
    # Of those that do nothing every other one is kept by a job.
    return tasks + [Nothing(is_reserved=number % 2 == 0) for number in range(n_left - n_serving)]
