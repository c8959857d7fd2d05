"""A simulated host under the watch, for tests of health: its agent samples, its batches are ingested, the watch passes.

The clock is the test's; a batch is taken each ten seconds, and then the watch passes.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from django.utils import timezone

from fleet.models import Event, Host, Origin
from telemetry.agent.batching import machine_digest
from telemetry.agent.names import Names, Parcel
from telemetry.health import alerts
from telemetry.health.watch import watch
from telemetry.simulation.boards import BOARDS
from telemetry.simulation.faults import Fault, FaultKind
from telemetry.simulation.host import Host as SimulatedHost
from telemetry.simulation.load import PHASES, Load
from telemetry.simulation.machine import Machine
from tests.telemetry.batches import enrolled, take

START = 1_795_435_200.0
PASS_SECONDS = 10
WORK = replace(PHASES["compute"], tensor=0.3, dram=0.3)  # below the power limit: every clock is the board's own


class Steady:
    """A load that the test sets."""

    def __init__(self, load: Load) -> None:
        self.load = load

    def at(self, seconds: float) -> Load:
        return self.load


class WatchedHost:
    """`machine` is what breaks; `delay_seconds` is how late its batches come."""

    def __init__(self, name: str = "sim-0001", n_gpus: int = 2, load: Load = WORK, **fields: object) -> None:
        self.now, self.delay_seconds, self.is_cut = START, 0.0, False
        self.task = Steady(load)
        self.machine = Machine(name, BOARDS["h100"], n_gpus, self.task, lambda: self.now, "1")
        self.machine.open()
        self._waiting: list[tuple[float, bytes]] = []
        self._agent = SimulatedHost(
            self.machine,
            lambda: self.now,
            self._send,
            PASS_SECONDS,
            names=Names(uuid4().hex),
            digest=machine_digest(name),
        )
        self.row: Host = enrolled(name, origin=Origin.SIMULATED, **fields)

    def _send(self, parcel: Parcel) -> None:
        self._waiting.append((self.now + self.delay_seconds, parcel.body))

    def run(self, seconds: float) -> None:
        """Let time go by."""
        for _ in range(round(seconds / PASS_SECONDS)):
            self.now += PASS_SECONDS
            if self.now >= self.machine.silent_until:
                self._agent.tick()
                self._agent.send()
            due = [body for at, body in self._waiting if at <= self.now]
            self._waiting = [(at, body) for at, body in self._waiting if at > self.now]
            for body in due:
                take(body, self.moment)
            watch(self.moment)

    @property
    def moment(self) -> datetime:
        return datetime.fromtimestamp(self.now, UTC)

    def suffer(self, kind: FaultKind, seconds: float = 60, device: int = 0) -> None:
        self.machine.suffer(Fault(kind, 0, device, self.now, self.now + seconds))

    def uuid(self, device: int = 0) -> str:
        return self.machine.devices[device].uuid


def firing() -> Mapping[tuple[str, str], Event]:
    """Return the open alerts by rule and subject."""
    found = list(alerts.open_alerts())
    assert len({(event.rule, event.subject) for event in found}) == len(found)
    return {(event.rule, event.subject): event for event in found}


def rules_firing() -> set[str]:
    return {rule for rule, _ in firing()}


def watch_for(seconds: float) -> None:
    """Let the watch pass as often as it would within the last `seconds`, with what stands in the database now."""
    now = timezone.now()
    for before in range(round(seconds), -1, -PASS_SECONDS):
        watch(now - timedelta(seconds=before))
