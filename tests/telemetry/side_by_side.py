"""Two threads in the functions that compress and decompress; test_frames.py starts it, because a crash ends the process.

`python -m tests.telemetry.side_by_side PLACE SECONDS` ends with 0 where each call gave what it gives alone.
"""

import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from telemetry.message import wire
from telemetry.message.batch import Batch, DeviceInfo, DeviceKind
from telemetry.store import chunks, selected, statistics
from telemetry.store.chunks import DeviceHour, Series, Stretch
from telemetry.store.gather import Gathering

EPOCH = "0" * 32
SOME = np.random.default_rng(1)

Calls = Sequence[Callable[[], object]]


def batch(sequence: int) -> Batch:
    times_ms = [1_000 * (10 * sequence + n) for n in range(1, 11)]
    return Batch(
        host="gpu-a01", epoch=EPOCH, sequence=sequence, segment=0, sent_ms=times_ms[-1], times_ms=times_ms,
        devices=[DeviceInfo("GPU-0", DeviceKind.NVIDIA, 0, "H100")], machine=EPOCH,
        columns={"power_draw_watts": [SOME.uniform(0, 700, 10).tolist()]},
        software={f"driver {n}": str(SOME.random()) for n in range(20)},
    )  # fmt: skip


def of_agent() -> Calls:
    made = batch(0)
    packed = wire.pack(made)
    return [lambda: wire.pack(made), lambda: wire.renamed(packed, "1" * 32, 7)]


def of_batches() -> Calls:
    bodies = [wire.pack(batch(n)) for n in range(20)]

    def read() -> bytes:
        gathering = Gathering()
        selected.add(gathering, bodies)
        return gathering.gathered().steps.tobytes()

    return [read, read]


def of_chunks() -> Calls:
    # The one that moves seldom is zstd's, the other pcodec's.
    series = [Series(None, SOME.integers(0, 50, 3600)), Series(None, np.arange(3600) // 100 % 7)]
    hour = DeviceHour((Stretch(EPOCH, 0, 1.0, 3600),), np.arange(3600) * 1000, dict(enumerate(series, 1)))
    body = chunks.encode(hour)

    def read() -> list[bytes]:
        return [each.steps.tobytes() for each in chunks.decode(body).series.values()]

    return [read, read, lambda: chunks.encode(hour)]


def of_statistics() -> Calls:
    keys = np.array([(number, field, 0, device) for number in (10, 13) for field in range(5) for device in range(8)])
    found = statistics.ordered(keys, SOME.integers(0, 1000, (len(keys), 60)), 0, 60_000)
    fresh = found._replace(values=found.values[:, :1])
    joined = statistics.encode_joined(found)

    def read() -> bytes:
        return statistics.decode(joined, 0, 60_000).values.tobytes()

    return [
        read,
        lambda: statistics.encode_fresh(fresh),
        lambda: statistics.encode_joined(found),
    ]


PLACES = {"agent": of_agent, "batches": of_batches, "chunks": of_chunks, "statistics": of_statistics}


def repeat(calls: Calls, until: float) -> None:
    """Raises AssertionError where a call gives another result than at first."""
    expected = [call() for call in calls]
    while time.monotonic() < until:
        assert [call() for call in calls] == expected


def main(place: str, seconds: float) -> None:
    calls = PLACES[place]()
    until = time.monotonic() + seconds
    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(repeat, turn, until) for turn in (calls, calls[::-1])]:
            done.result()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
