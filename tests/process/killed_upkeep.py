"""A store whose compaction and rollups are killed again and again, as a process of its own. Called by test_killed_upkeep.py.

`python -m tests.process.killed_upkeep SEED TIMES` fills an empty database, lets upkeep begin and kills it at random moments, so
many times, then lets it end. Prints how often it was at work when it was killed, and what the store holds.
"""

import hashlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import django

T0 = 1_700_000_000_000 // 86_400_000 * 86_400_000
NOW = datetime.fromtimestamp(T0 / 1000 + 30 * 3600, UTC)  # all of it is over
HOSTS, HOURS, BATCH_SECONDS, SAMPLE_SECONDS = 3, 3, 300, 5
LONGEST_SECONDS = (0.05, 0.4)  # before a kill: both what begins and what ends is to be hit


def fill() -> None:
    """Store some hours of a few hosts, as the ingest does."""
    from tests.telemetry.batches import payload, take

    for host in range(HOSTS):
        for sequence in range(HOURS * 3600 // BATCH_SECONDS):
            ticks = [BATCH_SECONDS * sequence + at for at in range(0, BATCH_SECONDS, SAMPLE_SECONDS)]
            columns = {
                "power_draw_watts": [float(tick * (host + 7) % 701) for tick in ticks],
                "energy_joules_total": [300.0 * tick for tick in ticks],
                "gpu_utilization_ratio": [tick // 900 % 4 / 4 for tick in ticks],
                "clock_event_reasons": [tick // 60 % 3 * 4 for tick in ticks],
            }
            times = [T0 + 1000 * tick for tick in ticks]
            names = {"host": f"gpu-a{host:02}", "device": _gpu(host), "epoch": f"{host:032x}"}
            take(payload(times, columns, sequence=sequence, sample_seconds=SAMPLE_SECONDS, **names), NOW)


def _gpu(host: int) -> object:
    from telemetry.wire import DeviceInfo, DeviceKind

    return DeviceInfo(f"GPU-{host}", DeviceKind.NVIDIA, 0, "NVIDIA H100 80GB HBM3")


def upkeep(order: Sequence[int] = (0, 1, 2)) -> None:
    """Do all that is to be done."""
    from telemetry import rollups
    from telemetry.store import compact

    tasks = (
        lambda: rollups.roll_up(60, NOW),
        lambda: compact.compact(NOW, 60).n_batches,
        lambda: rollups.join(60, NOW),
    )
    while [done for done in [tasks[place]() for place in order] if done]:
        pass


def kill_at_work(draw: random.Random) -> bool:
    """Kill a process that does the upkeep, in any order of its tasks, at any moment; False where it had done all."""
    from django.db import connection

    order, moment = draw.sample(range(3), 3), draw.uniform(0, draw.choice(LONGEST_SECONDS))

    connection.close()  # each process makes its own
    if hasattr(connection, "close_pool"):
        connection.close_pool()
    pid = os.fork()
    if pid == 0:
        upkeep(order)
        os._exit(0)
    time.sleep(moment)
    os.kill(pid, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def held() -> dict[str, str]:
    """Return digests of all samples, and of all rollups of hosts and of groups."""
    from fleet.models import Device, Host
    from telemetry import catalog
    from telemetry.models import RollupGroup
    from telemetry.store import rolled, samples

    devices = list(Device.objects.order_by("uuid"))
    found = samples.raw(devices, list(catalog.BY_NAME), 0, 2**60)
    readings = [(key, each.times_ms.tolist(), each.values.tolist()) for key, each in sorted(found.items())]
    hosts, groups = Host.objects.order_by("name"), RollupGroup.objects.order_by("kind", "value", "devices")
    told = {"samples": readings}
    for step in rolled.STEPS:
        told[f"{step} s of hosts"] = _values(rolled.of_hosts([each.pk for each in hosts], step, 0, 2**60))
        told[f"{step} s of groups"] = _values(rolled.of_groups([each.pk for each in groups], step, 0, 2**60))
    return {name: f"{len(each)} {hashlib.sha256(repr(each).encode()).hexdigest()}" for name, each in told.items()}


def _values(tables: dict) -> list[object]:
    return [
        (table.keys.table.tolist(), table.starts_ms.tolist(), table.values.tolist())
        for _, table in sorted(tables.items())
    ]


def main(seed: int, times: int) -> None:
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    fill()
    draw = random.Random(seed)
    killed = sum(kill_at_work(draw) for _ in range(times))
    upkeep()
    call_command("verify_store", stdout=sys.stderr)
    sys.stdout.write(json.dumps({"killed": killed, "held": held()}))


if __name__ == "__main__":
    django.setup()
    main(int(sys.argv[1]), int(sys.argv[2]))
