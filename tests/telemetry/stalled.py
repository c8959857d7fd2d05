"""A sampler in a process of its own, which a test stops and lets go on: prints each tick's number and whether it lacks values."""

import json
import sys
import time

from telemetry.agent.collector import Collector
from telemetry.agent.sampler import Sampler
from telemetry.catalog import AbsentReason
from tests.telemetry.steered import SteeredBackend

PERIOD_SECONDS, RUN_SECONDS = 0.05, 2.5


def main() -> None:
    sampler = Sampler(Collector([SteeredBackend("a")], PERIOD_SECONDS), PERIOD_SECONDS)
    sampler.start()
    sys.stdout.write("started\n")
    sys.stdout.flush()
    end = time.monotonic() + RUN_SECONDS
    while time.monotonic() < end:
        time.sleep(0.1)
    ticks = sampler.take()
    sampler.stop()
    found = [
        (t.number, any(isinstance(v, AbsentReason) for r in t.readings.values() for v in r.values())) for t in ticks
    ]
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
