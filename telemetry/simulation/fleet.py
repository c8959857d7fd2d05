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
from telemetry.simulation import planned
from telemetry.simulation.boards import BOARDS
from telemetry.simulation.faults import Fault, FaultKind, faults
from telemetry.simulation.host import Host
from telemetry.simulation.load import Inference, Nothing, Session, Task
from telemetry.simulation.machine import Machine
from telemetry.simulation.planned import Planned
from telemetry.simulation.plans import PLANS
from telemetry.simulation.training import Place, TrainingRun

MAX_HOSTS, MAX_GPUS = 5000, 16
SAMPLE_SECONDS, BATCH_TICKS = 1.0, 5
WORN_CLOCK = 0.86
_TRAINING_SHARE, _INFERENCE_SHARE = 0.6, 0.25


class Pace(NamedTuple):
    """How far samples lie apart, and how many of them go together."""

    sample_seconds: float
    batch_ticks: int


LIVE = Pace(SAMPLE_SECONDS, BATCH_TICKS)
PAST = Pace(30.0, 20)  # what a day costs is mostly its samples


@dataclass(frozen=True, slots=True)
class Shape:
    """What the user asked for. `model` is a key of BOARDS; `has_instances`: hosts that serve have MIG instances.

    `is_idle`: no host does anything by itself. `faults` are all that go wrong, and no GPU is worn; None: as the seed has it.
    """

    n_hosts: int
    n_gpus: int
    model: str = "h100"
    prefix: str = "sim"
    seed: int = 1
    has_instances: bool = False
    is_idle: bool = False
    faults: tuple[Planned, ...] | None = None

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
        tasks = _tasks(shape, self.runs, start)
        self.machines = [
            _machine(shape, name, task, clock) for name, task in zip(shape.host_names(), tasks, strict=True)
        ]
        self.hosts = [
            _host(machine, clock, submit, self.pace, names, partial(cargo, place))
            for place, machine in enumerate(self.machines)
        ]
        self._run_of = {host: place.run for place in self.runs for host in place.hosts}
        self._slow: set[Place] = set()
        if worn := _worn(shape, self.runs):
            host, gpu = worn
            self.machines[host].gpus[gpu].wear = WORN_CLOCK
            self._hold_up(worn)
        self._faults = _faults(shape, start, past_until)
        self._next_fault = next(self._faults, None)
        self._n_ticks = 0

    def tick(self) -> None:
        """Take one sample of every host, and let some of them send what they have: each once in a batch's ticks."""
        now = self._clock()
        while self._next_fault is not None and self._next_fault.start <= now:
            self._suffer(self._next_fault)
            self._next_fault = next(self._faults, None)
        self._n_ticks += 1
        for place, (machine, host) in enumerate(zip(self.machines, self.hosts, strict=True)):
            if now < machine.silent_until:
                continue
            host.tick()
            if (self._n_ticks + place) % self.pace.batch_ticks == 0:
                host.send()
        for slow in list(self._slow):
            self._hold_up(slow)

    def _suffer(self, fault: Fault) -> None:
        self.machines[fault.host].suffer(fault)
        if fault.kind is FaultKind.SLOW and fault.host in self._run_of:
            self._slow.add((fault.host, fault.device))

    def _hold_up(self, slow: Place) -> None:
        """Have the others of its run wait for a GPU as long as its clocks are low; one that recovered is looked at no more."""
        gpu = self.machines[slow[0]].gpus[slow[1]]
        self._run_of[slow[0]].hold_up(slow, gpu.lengthening)
        if gpu.condition.clock >= 1:
            self._slow.discard(slow)

    def arrive(self) -> None:
        """Live from now on: what was made of the past is sent."""
        self.pace = LIVE
        for host in self.hosts:
            host.sample_every(LIVE.sample_seconds)

    def end(self) -> None:
        """Let every host send what it still has."""
        for host in self.hosts:
            host.end()


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


def _worn(shape: Shape, runs: list[RunPlace]) -> Place | None:
    """Return which GPU is worn: the last one of the first run, if it has others to hold up and nobody said what goes wrong."""
    if not runs or shape.faults is not None:
        return None
    n_hosts = len(runs[0].hosts)
    return (n_hosts - 1, shape.n_gpus - 1) if n_hosts * shape.n_gpus > 1 else None


def _faults(shape: Shape, start: float, past_until: float) -> Iterator[Fault]:
    if shape.faults is not None:
        return planned.faults(shape.faults, past_until or start)
    return faults(f"{shape.seed}/faults", start, shape.n_hosts, shape.n_gpus, past_until)


def _runs(shape: Shape, start: float) -> list[RunPlace]:
    left = 0 if shape.is_idle else max(1, round(shape.n_hosts * _TRAINING_SHARE))
    places, first = [], 0
    for number, plan in enumerate(PLANS):
        is_last = number == len(PLANS) - 1
        n_hosts = left if is_last else (left + 1) // 2
        if not n_hosts:
            break
        launch = f"{shape.prefix}-{shape.seed}-{round(start * 1000)}"
        run = TrainingRun(plan, launch, start, f"{shape.seed}/{plan.name}")
        places.append(RunPlace(run, range(first, first + n_hosts)))
        first, left = first + n_hosts, left - n_hosts
    return places


def _tasks(shape: Shape, places: list[RunPlace], start: float) -> list[Task]:
    if shape.is_idle:
        return [Nothing() for _ in range(shape.n_hosts)]
    tasks: list[Task] = [place.run for place in places for _ in place.hosts]
    n_left = shape.n_hosts - len(tasks)
    n_serving = min(n_left, max(1, round(shape.n_hosts * _INFERENCE_SHARE))) if n_left else 0
    tasks += [Inference(f"{shape.seed}/serve/{number}") for number in range(n_serving)]
    # Of those that do nothing every other one is kept by a job.
    return tasks + [Nothing() if number % 2 else Session(start) for number in range(n_left - n_serving)]
