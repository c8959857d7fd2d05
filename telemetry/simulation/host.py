"""A simulated host's agent: the real collecting, batching and packing, over a simulated machine and without threads.

Called by the simulated fleet. No Django.
"""

import time
from collections.abc import Callable
from uuid import uuid4

from telemetry.agent.batching import BatchMaker, machine_digest
from telemetry.agent.collector import Collector
from telemetry.agent.ticks import Tick
from telemetry.simulation.machine import Machine
from telemetry.wire import pack


class Host:
    """`clock` gives UTC seconds and stands for the boot clock too; `submit(host, body)` takes each batch."""

    def __init__(
        self, machine: Machine, clock: Callable[[], float], submit: Callable[[str, bytes], None], sample_seconds: float
    ) -> None:
        self._machine, self._clock, self._submit = machine, clock, submit
        self._collector = Collector([machine], sample_seconds, clock)
        self._maker = BatchMaker(machine.host, machine_digest(machine.host), uuid4().hex, sample_seconds)
        self._ticks: list[Tick] = []
        self._number = 0

    def tick(self) -> None:
        self._number += 1
        self._ticks.append(self._collector.sample(self._number, self._clock(), 0.0))

    def send(self) -> None:
        ticks, self._ticks = self._ticks, []
        collector = self._collector
        for batch in self._maker.make(ticks, collector.software(), collector.topology(), time.time):
            self._submit(self._machine.host, pack(batch))
            self._machine.n_batches += 1
