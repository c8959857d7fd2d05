"""The ranks of the ingest's bench on their hosts, a process of its own: `python -m training.bench.rank_sender`. No Django.

Reads one line of JSON ({"broker_url", "seeds", "seconds"}): hosts of 8 ranks each, which tell their agents of ten steps a second
for so long. Each agent's own code keeps them, and sends them with its batches, every 5 s. Writes one line of JSON: `Told`.
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from telemetry.agent.steps import Frame, Moment
from telemetry.bench.publishing import publishing
from telemetry.bench.signals import GPUS_PER_HOST, Signals, batch, devices, in_units
from telemetry.message.wire import MAX_CARGO_BYTES, pack
from training.host.steps import StepHold
from training.message.wire import STEPS_CARGO
from training.steps import datagram
from training.steps.datagram import Record

STEPS_A_SECOND, BATCH_TICKS = 10, 5
RUN, LAUNCH = "bench", "bench-1"
_PHASES = ("data", "forward", "backward", "communication", "optimizer")
_SHARES = (0.99, 0.02, 0.25, 0.5, 0.15, 0.05)  # of the time between two: the step, and its phases
_NANOSECONDS = 10**9 // STEPS_A_SECOND


@dataclass(frozen=True, slots=True)
class Told:
    """What was told. `late_seconds` is how far it fell behind the clock at worst; `cpu_seconds` are this process's."""

    n_steps: int
    n_batches: int
    cpu_seconds: float
    late_seconds: float


class Ranks:
    """The ranks of one host, numbered through from `first`."""

    def __init__(self, host: str, first: int, n_ranks: int) -> None:
        self.hold = StepHold()
        self._sequence = 0
        self._headers = [_header(device.uuid, first + place, n_ranks) for place, device in enumerate(devices(host))]
        self._random = np.random.default_rng(first)

    def step(self, moment: Moment, n_steps: int) -> None:
        """Have all ranks tell of the steps of the last second."""
        noise = self._random.normal(1.0, 0.004, (n_steps, GPUS_PER_HOST, len(_PHASES) + 1)).tolist()
        frames = [
            Frame(header + datagram.put_record(self._record(moment, n_steps, number, noise[number][place])), 0, 0, 0)
            for number in range(n_steps)
            for place, header in enumerate(self._headers)
        ]
        self._sequence += n_steps
        self.hold.put(frames, moment)

    def _record(self, moment: Moment, n_steps: int, number: int, noise: Sequence[float]) -> Record:
        sequence = self._sequence + number
        seconds, *phases = (round(_NANOSECONDS * share * each) for share, each in zip(_SHARES, noise, strict=True))
        ended_ns = moment.monotonic_ns - (n_steps - 1 - number) * _NANOSECONDS
        return Record(sequence, 0, sequence, ended_ns, seconds, seconds - phases[3], 8.0, 32_768.0, 2.5, 0, 0, phases)


def _header(uuid: str, rank: int, n_ranks: int) -> bytes:
    """Return what a client sends before each record."""
    head = {
        "v": datagram.VERSION, "run": RUN, "launch": LAUNCH, "rank": rank, "world_size": n_ranks, "process": f"{rank:032x}",
        "devices": [uuid], "phases": _PHASES, "about": {"dtype": "bf16", "samples_per_step": 8},
    }  # fmt: skip
    return json.dumps(head).encode() + b"\n"


def run() -> None:
    asked = json.loads(sys.stdin.readline())
    names = list(asked["seeds"])
    hosts = [Ranks(name, place * GPUS_PER_HOST, len(names) * GPUS_PER_HOST) for place, name in enumerate(names)]
    signals, sent, n_steps, late_seconds = Signals(len(names) * GPUS_PER_HOST, 1), [0] * len(names), 0, 0.0
    start = int(time.time()) + 1
    with publishing(asked["broker_url"], asked["seeds"]) as publisher:
        for tick in range(1, asked["seconds"] + 1):
            behind = time.time() - (start + tick)
            late_seconds = max(late_seconds, behind)
            time.sleep(max(0.0, -behind))
            moment, steps = Moment.now(), signals.advance(1)
            for place, host in enumerate(hosts):
                host.step(moment, STEPS_A_SECOND)
                n_steps += STEPS_A_SECOND * GPUS_PER_HOST
                if (tick + place) % BATCH_TICKS == 0 or tick == asked["seconds"]:
                    gpus = slice(place * GPUS_PER_HOST, (place + 1) * GPUS_PER_HOST)
                    made = batch(
                        names[place],
                        f"{place + 1:032x}",
                        sent[place],
                        [(start + tick) * 1000],
                        in_units(steps[:, gpus]),
                    )
                    cargo = {STEPS_CARGO: host.hold.take(MAX_CARGO_BYTES)}
                    publisher.send(names[place], pack(replace(made, cargo=cargo)))
                    sent[place] += 1
    sys.stdout.write(json.dumps(asdict(Told(n_steps, sum(sent), time.process_time(), late_seconds))) + "\n")


if __name__ == "__main__":
    run()
