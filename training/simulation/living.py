"""`manage.py simulate`: enrols the simulated hosts, lets them live on the clock, and sends what they make to the broker.

Called by the command and by tests. The hosts themselves, their sampling and batching are telemetry.simulation's; here are
the inventory, the step timings of their runs, their reference jobs, and the pace.
"""

import logging
import time
from collections.abc import Callable
from threading import Event
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.db import transaction
from django.utils import timezone

from fleet.models import Host, Origin
from telemetry.agent.names import Names, Parcel
from telemetry.message import envelope
from telemetry.simulation.fleet import BATCH_TICKS, SAMPLE_SECONDS, Fleet, Shape
from training.message import wire
from training.message.wire import REPORT_TASK, JobReport
from training.simulation.jobs import SimulatedJobs
from training.simulation.loops import SimulatedLoops

logger = logging.getLogger(__name__)

_MOST_WAITING = 2_000  # batches that the broker has not taken yet: then the fleet waits, and nothing is dropped
_MOST_UNREAD = 5_000  # messages that lie in the broker: time that runs faster than the server can store waits for it
_MOST_BEHIND_SECONDS = 2.0

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


def has_reported(shape: Shape) -> bool:
    """Tell whether any of the hosts has sent anything before."""
    return Host.objects.filter(name__in=shape.host_names(), last_seen_at__isnull=False).exists()


class Line(Protocol):
    """The agent's way to the server: its sender, with an outbox over a spool."""

    def submit_batch(self, parcel: Parcel) -> None: ...

    def submit(self, task: str, payload: bytes, *, replaces: str = "") -> None:
        """Send a sealed message, in place of one of the same name that still waits."""
        ...

    def names(self, host: str, machine: str) -> Names: ...

    def n_unsent(self) -> int:
        """Return how many batches the broker, while it is reached, has not taken yet."""
        ...


class Simulation:
    """A fleet on the clock. `span` seconds at `speed` end now; without `span` it lives on with the clock, until told to stop.

    Before it does, `history` seconds up to now are made as fast as the machine can, with a sample each half minute. `jobs`
    take orders that came for its hosts; they are carried out while it lives with the clock.
    """

    def __init__(
        self,
        shape: Shape,
        keys: Keys,
        line: Line,
        *,
        span: float | None = None,
        speed: float = 1.0,
        history: float = 0.0,
        n_unread: Callable[[], int] = lambda: 0,
        arrived: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`n_unread` tells how many messages lie in the broker; `arrived` is called when the history has been made."""
        self.stop = Event()
        self._keys, self._line, self._clock = keys, line, clock
        self._span, self._speed, self._n_unread, self._arrived = span, speed, n_unread, arrived
        self._began = clock()
        self._start = self._began + (span or 0.0) / speed - (span or 0.0)
        self._now = self._start - history
        self._has_past = bool(history)
        self.fleet = Fleet(
            shape, lambda: self._now, self._send_batch, line.names, lambda place: self._steps.cargo(place, self._now),
            past_until=self._start if history else 0.0,
        )  # fmt: skip
        self._steps = SimulatedLoops(self.fleet, f"{shape.seed}/steps")
        self.jobs = SimulatedJobs(self.fleet, self._steps.take, self._send_report)

    def run(self) -> None:
        """Live until the span is over or `stop` is set; then hand over what is left."""
        if self._has_past:
            self._make_past()
        number = 0
        while not self.stop.is_set() and (self._span is None or number * SAMPLE_SECONDS < self._span):
            number = self._wait_for(number + 1)
            self.live(self._start + number * SAMPLE_SECONDS)
            if number % BATCH_TICKS == 0 and self._span is not None:
                self._let_the_server_catch_up()
        self.fleet.end()

    def live(self, now: float) -> None:
        """Let the fleet live until UTC seconds: one tick."""
        self._now = now
        self.fleet.tick()
        if self._span is None:
            self.jobs.tick(now)

    def _make_past(self) -> None:
        """Go from tick to tick until the clock is reached, which goes on meanwhile; live from there."""
        number, (seconds, batch_ticks) = 0, self.fleet.pace
        while not self.stop.is_set() and self._now + seconds <= self._clock():
            self._now += seconds
            self._steps.hear(self._now)
            self.fleet.tick()
            number += 1
            if number % batch_ticks == 0:
                self._let_the_server_catch_up()
        self.fleet.arrive()
        self._began = self._start = self._now
        if not self.stop.is_set():
            self._arrived()

    def _wait_for(self, number: int) -> int:
        """Return the tick that is due, at its time; where this machine is too slow for the clock, ticks are left out."""
        due = self._began + number * SAMPLE_SECONDS / self._speed
        behind = self._clock() - due
        if behind < 0:
            self.stop.wait(-behind)
        if self._span is None and behind > _MOST_BEHIND_SECONDS:
            return number + int(behind / SAMPLE_SECONDS)
        return number

    def _let_the_server_catch_up(self) -> None:
        is_said = False
        while (n_unread := self._n_unread()) > _MOST_UNREAD and not self.stop.is_set():
            if not is_said:
                logger.warning("%d messages lie in the broker: waiting until the server has read them", n_unread)
                is_said = True
            self.stop.wait(0.5)

    def _send_batch(self, parcel: Parcel) -> None:
        while self._line.n_unsent() >= _MOST_WAITING and not self.stop.wait(0.05):
            pass
        self._line.submit_batch(parcel)

    def _send_report(self, report: JobReport) -> None:
        sealed = envelope.seal(self._keys[report.host], REPORT_TASK, report.host, wire.pack(report))
        is_passing = report.state in {"starting", "running"}
        self._line.submit(REPORT_TASK, sealed, replaces=f"job-{report.host}-{report.job}" if is_passing else "")


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
