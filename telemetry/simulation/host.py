"""A simulated host's agent: the real collecting, batching and packing, over a simulated machine and without threads.

Called by the simulated fleet. No Django.
"""

import hashlib
import math
import time
from collections.abc import Callable

from telemetry.agent.batching import BatchMaker
from telemetry.agent.collector import Collector
from telemetry.agent.names import Names, Parcel
from telemetry.agent.ticks import Tick
from telemetry.message.wire import Cargo, pack
from telemetry.simulation.machine import Machine


class Host:
    """`clock` gives UTC seconds and stands for the boot clock too; `submit` takes each batch, `names` names them.

    `cargo` gives what goes along with one.

    `n_batches` and `n_samples` are what it made: batches, and readings in them that are not absent. `digest` is the sum of
    the batches' BLAKE2b hashes of 8 bytes, modulo 2^64: it is the same in whatever order they arrive.
    """

    def __init__(
        self,
        machine: Machine,
        clock: Callable[[], float],
        submit: Callable[[Parcel], None],
        sample_seconds: float,
        *,
        names: Names,
        digest: str,
        cargo: Callable[[], Cargo] = dict,
    ) -> None:
        self._machine, self._clock, self._submit = machine, clock, submit
        self._machine_digest, self._cargo = digest, cargo
        self._ticks: list[Tick] = []
        self._under_way: list[tuple[float, Parcel]] = []  # with when each arrives
        self._number = 0
        self.names = names
        self.n_batches = self.n_samples = self.digest = 0
        self._begin(sample_seconds)

    def _begin(self, sample_seconds: float) -> None:
        self._collector = Collector([self._machine], sample_seconds, self._clock)
        self._maker = BatchMaker(self._machine.host, self._machine_digest, self.names, sample_seconds, self._cargo)

    def sample_every(self, seconds: float) -> None:
        """Send what it has, and lie so long between two ticks from now on."""
        self.send()
        self._begin(seconds)

    def tick(self) -> None:
        self._number += 1
        self._ticks.append(self._collector.sample(self._number, self._clock(), 0.0))

    def send(self) -> None:
        ticks, self._ticks = self._ticks, []
        collector = self._collector
        for batch in self._maker.make(ticks, collector.software(), collector.topology(), time.time):
            body = pack(batch)
            parcel = Parcel(batch.host, batch.epoch, batch.sequence, body)
            self._under_way.append((self._clock() + self._machine.delay_seconds(), parcel))
            self._machine.n_batches += 1
            self.n_batches += 1
            self.digest = (self.digest + int.from_bytes(hashlib.blake2b(body, digest_size=8).digest(), "big")) % 2**64
            self.n_samples += sum(
                len(column) - column.count(None) for by_device in batch.columns.values() for column in by_device
            )
        self._hand_over(self._clock())

    def end(self) -> None:
        """Send what it has, also what would be under way for longer."""
        self.send()
        self._hand_over(math.inf)

    def _hand_over(self, until: float) -> None:
        waiting, self._under_way = self._under_way, []
        for at, parcel in waiting:
            if at <= until:
                self._submit(parcel)
            else:
                self._under_way.append((at, parcel))
