"""`manage.py simulate`: enrols the simulated hosts, lets them live on the clock, and sends what they make to the broker.

Called by the command and by tests. The hosts themselves, their sampling and batching are telemetry.simulation's; here are
the inventory, the step timings of their runs, and the pace.
"""

import logging
import random
import time
from collections.abc import Callable, Iterator
from threading import BoundedSemaphore, Event
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.db import transaction
from django.utils import timezone

from fleet.models import Host, Origin
from telemetry import envelope
from telemetry.agent.names import Names, Parcel
from telemetry.simulation.fleet import BATCH_TICKS, SAMPLE_SECONDS, Fleet, RunPlace, Shape
from telemetry.simulation.training import SimulatedStep
from training.host.steps import MAX_STEPS
from training.wire import STEPS_TASK, StepTiming, pack_steps

logger = logging.getLogger(__name__)

_MOST_WAITING = 2_000  # messages that the broker has not taken yet: then the fleet waits, and nothing is dropped
_MOST_UNREAD = 5_000  # messages that lie in the broker: time that runs faster than the server can store waits for it
_MOST_BEHIND_SECONDS = 2.0
_RANK_JITTER = 0.003

Keys = dict[str, Ed25519PrivateKey]


class NameTaken(Exception):
    """A host of that name exists and is none of a simulation."""


@transaction.atomic
def enrol(shape: Shape, cluster: str) -> Keys:
    """Return a new key for each host, which the inventory knows from now on. Raises NameTaken, and changes nothing."""
    names = shape.host_names()
    known = {host.name: host for host in Host.objects.select_for_update().filter(name__startswith=shape.prefix)}
    for name in names:
        if name in known and known[name].origin != Origin.SIMULATED:
            raise NameTaken(
                f"host {name} exists and is {known[name].get_origin_display()}, not simulated; choose another --prefix"
            )
    keys = {name: Ed25519PrivateKey.generate() for name in names}
    now = timezone.now()
    hosts = [
        Host(
            name=name, cluster=cluster, origin=Origin.SIMULATED, joined_at=now,
            public_key=key.public_key().public_bytes_raw(),
        )
        for name, key in keys.items()
    ]  # fmt: skip
    Host.objects.bulk_create(
        hosts, update_conflicts=True, unique_fields=["name"], update_fields=["cluster", "joined_at", "public_key"]
    )
    return keys


class Line(Protocol):
    """The agent's way to the server: its sender, with an outbox over a spool."""

    def submit(
        self, task: str, payload: bytes, *, replaces: str = "", on_sent: Callable[[], None] | None = None
    ) -> None:
        """Take a sealed message at once, and tell when the broker has it."""
        ...

    def submit_batch(self, parcel: Parcel) -> None: ...

    def names(self, host: str, machine: str) -> Names: ...

    def n_unsent(self) -> int:
        """Return how many batches the broker, while it is reached, has not taken yet."""
        ...


class Simulation:
    """A fleet on the clock. `span` seconds at `speed` end now; without `span` it lives on with the clock, until told to stop."""

    def __init__(
        self,
        shape: Shape,
        keys: Keys,
        line: Line,
        *,
        span: float | None = None,
        speed: float = 1.0,
        n_unread: Callable[[], int] = lambda: 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`n_unread` tells how many messages lie in the broker."""
        self.stop = Event()
        self.seconds_behind = 0.0
        self._keys, self._line, self._clock = keys, line, clock
        self._span, self._speed, self._n_unread = span, speed, n_unread
        self._began = clock()
        self._start = self._began + (span or 0.0) / speed - (span or 0.0)
        self._now = self._start
        self._free = BoundedSemaphore(_MOST_WAITING)
        self.fleet = Fleet(shape, lambda: self._now, self._send_batch, line.names)
        self._steps = StepTimings(self.fleet, f"{shape.seed}/steps")

    def run(self) -> None:
        """Live until the span is over or `stop` is set; then hand over what is left."""
        number = 0
        while not self.stop.is_set() and (self._span is None or number * SAMPLE_SECONDS < self._span):
            number = self._wait_for(number + 1)
            self._now = self._start + number * SAMPLE_SECONDS
            self.fleet.tick()
            if number % BATCH_TICKS == 0:
                self._send_steps()
                self._let_the_server_catch_up()
        self.fleet.end()
        self._send_steps()

    def _wait_for(self, number: int) -> int:
        """Return the tick that is due, at its time; where this machine is too slow for the clock, ticks are left out."""
        due = self._began + number * SAMPLE_SECONDS / self._speed
        behind = self._clock() - due
        if behind < 0:
            self.stop.wait(-behind)
        self.seconds_behind = max(0.0, behind)
        if self._span is None and behind > _MOST_BEHIND_SECONDS:
            return number + int(behind / SAMPLE_SECONDS)
        return number

    def _let_the_server_catch_up(self) -> None:
        is_said = False
        while self._span is not None and (n_unread := self._n_unread()) > _MOST_UNREAD and not self.stop.is_set():
            if not is_said:
                logger.warning("%d messages lie in the broker: waiting until the server has read them", n_unread)
                is_said = True
            self.stop.wait(0.5)

    def _send_steps(self) -> None:
        for host, body in self._steps.take(self._now):
            while not self._free.acquire(timeout=0.5):
                if self.stop.is_set():
                    return  # the broker is away, and so are the last messages
            sealed = envelope.seal(self._keys[host], STEPS_TASK, host, body)
            self._line.submit(STEPS_TASK, sealed, on_sent=self._free.release)

    def _send_batch(self, parcel: Parcel) -> None:
        while self._line.n_unsent() >= _MOST_WAITING and not self.stop.wait(0.05):
            pass
        self._line.submit_batch(parcel)


def report(fleet: Fleet) -> dict[str, dict[str, object]]:
    """Return what each host made: the epoch of its batches, how many they were, the readings in them, and their digest."""
    return {
        machine.host: {
            "epoch": host.names.epoch,
            "batches": host.n_batches,
            "samples": host.n_samples,
            "digest": host.digest,
        }
        for machine, host in zip(fleet.machines, fleet.hosts, strict=True)
    }


class StepTimings:
    """The steps of the fleet's runs as each host's training loops report them."""

    def __init__(self, fleet: Fleet, seed: str) -> None:
        self._fleet = fleet
        self._choose = random.Random(seed)  # noqa: S311 — a simulation is to be repeatable
        self._held: dict[int, list[StepTiming]] = {}  # by host; a silent one reports when it is back

    def take(self, now: float) -> Iterator[tuple[str, bytes]]:
        """Yield (host, message) with the steps that ended by then."""
        for place in self._fleet.runs:
            steps = place.run.take_steps(now)
            for at, host in enumerate(place.hosts):
                held = self._held.setdefault(host, [])
                held += [
                    self._timing(place, at, gpu, step) for step in steps for gpu in range(self._fleet.shape.n_gpus)
                ]
                machine = self._fleet.machines[host]
                if now < machine.silent_until:
                    continue
                for start in range(0, len(held), MAX_STEPS):
                    yield machine.host, pack_steps(machine.host, held[start : start + MAX_STEPS])
                held.clear()

    def _timing(self, place: RunPlace, at: int, gpu: int, step: SimulatedStep) -> StepTiming:
        """Return the step as one rank saw it: fast ones wait for the slowest before the next."""
        fleet, run = self._fleet, place.run
        host, n_gpus = place.hosts[at], fleet.shape.n_gpus
        n_ranks = len(place.hosts) * n_gpus
        is_slowest = fleet.straggler == (host, gpu)
        factor = run.slowest if is_slowest else 1 - _RANK_JITTER * self._choose.random()
        samples = run.plan.samples_per_step / n_ranks
        return StepTiming(
            run=run.plan.name,
            launch=run.launch,
            number=step.number,
            ended_ms=int((step.start + step.seconds * factor) * 1000),
            seconds=step.seconds * factor,
            rank=at * n_gpus + gpu,
            device_uuid=fleet.machines[host].devices[gpu].uuid,
            samples=samples,
            tokens=samples * run.plan.tokens_per_sample,
            loss=step.loss,
            is_warmup=step.is_warmup,
        )
