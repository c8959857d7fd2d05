"""The simulated hosts of the fleet's bench, a process of its own: `python -m telemetry.bench.fleet_sender`. No Django.

Reads one line of JSON ({"broker_url", "seeds", "seconds", "seed"}), samples all GPUs once a second for so long, and sends each
host's batch every 5 s, packed, signed and published by the agent's own code. Writes one line of JSON at its end: `Told`.
"""

import json
import sys
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np

from telemetry.bench.content import digest_of
from telemetry.bench.publishing import Publisher, publishing
from telemetry.bench.signals import GPUS_PER_HOST, METRICS, Signals, batch, devices, in_units
from telemetry.decoding.matrix import Steps
from telemetry.message.wire import pack

BATCH_TICKS = 5


@dataclass(frozen=True, slots=True)
class Told:
    """What was sent. `late_seconds` is how far the sampling fell behind the clock at worst, `start_ms` the first sample.

    `digests` tell the whole content of the first host's GPUs, by uuid (content.py).
    """

    n_batches: int
    n_values: int
    start_ms: int
    cpu_seconds: float
    late_seconds: float
    digests: dict[str, str]


class Senders:
    """All hosts of the process; a fifth of them sends at each tick, as agents that were started at any time do."""

    def __init__(self, names: list[str], seed: int, publisher: Publisher, start_ms: int) -> None:
        self._names, self._publisher, self._start_ms = names, publisher, start_ms
        self._signals = Signals(len(names) * GPUS_PER_HOST, seed)
        self._ticks: deque[Steps] = deque(maxlen=BATCH_TICKS)
        self._first_host: list[Steps] = []
        self._n_ticks = 0
        self._sent = [0] * len(names)  # batches, by host
        self._ticks_sent = [0] * len(names)

    def tick(self) -> None:
        steps = self._signals.advance(1)
        self._ticks.append(steps)
        self._first_host.append(steps[:, :GPUS_PER_HOST].copy())
        self._n_ticks += 1
        self._send(place for place in range(len(self._names)) if (self._n_ticks + place) % BATCH_TICKS == 0)

    def end(self) -> tuple[int, int]:
        """Let all hosts send what they still have; returns (batches, values) sent in all."""
        self._send(range(len(self._names)))
        return sum(self._sent), sum(self._ticks_sent) * GPUS_PER_HOST * len(METRICS)

    def digests(self) -> dict[str, str]:
        steps = np.concatenate(self._first_host, axis=2)
        times_ms = self._start_ms + 1000 * np.arange(self._n_ticks, dtype=np.int64)
        known = devices(self._names[0])
        return {
            device.uuid: digest_of((times_ms, row) for row in steps[:, place]) for place, device in enumerate(known)
        }

    def _send(self, places: Iterable[int]) -> None:
        recent = np.concatenate(self._ticks, axis=2)
        for place in places:
            n_ticks = self._n_ticks - self._ticks_sent[place]
            if not n_ticks:
                continue
            gpus = slice(place * GPUS_PER_HOST, (place + 1) * GPUS_PER_HOST)
            first_ms = self._start_ms + 1000 * self._ticks_sent[place]
            times_ms = [first_ms + 1000 * tick for tick in range(n_ticks)]
            values = in_units(recent[:, gpus, -n_ticks:])
            made = batch(self._names[place], f"{place + 1:032x}", self._sent[place], times_ms, values)
            self._publisher.send(self._names[place], pack(made))
            self._sent[place] += 1
            self._ticks_sent[place] = self._n_ticks


def run() -> None:
    asked = json.loads(sys.stdin.readline())
    start = int(time.time()) + 1
    late_seconds = 0.0
    with publishing(asked["broker_url"], asked["seeds"]) as publisher:
        senders = Senders(list(asked["seeds"]), asked["seed"], publisher, start * 1000)
        for n in range(asked["seconds"]):
            behind = time.time() - (start + n)
            late_seconds = max(late_seconds, behind)
            time.sleep(max(0.0, -behind))
            senders.tick()
        n_batches, n_values = senders.end()
    told = Told(n_batches, n_values, start * 1000, time.process_time(), late_seconds, senders.digests())
    sys.stdout.write(json.dumps(asdict(told)) + "\n")


if __name__ == "__main__":
    run()
