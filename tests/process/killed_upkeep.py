"""A store whose compaction and rollups are killed again and again, as a process of its own. Called by test_killed_upkeep.py.

`python -m tests.process.killed_upkeep SEED TIMES STATEMENTS` fills an empty database, lets upkeep begin and kills it, so many
times, a little after a random one of its first so many statements, then lets it end. Prints how often it was at work when it was
killed, how many statements were left then, and what the store holds.
"""

import hashlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import count

import django

T0 = 1_700_000_000_000 // 86_400_000 * 86_400_000
NOW = datetime.fromtimestamp(T0 / 1000 + 30 * 3600, UTC)  # all of it is over
HOSTS, HOURS, BATCH_SECONDS, SAMPLE_SECONDS = 3, 3, 300, 5
LONGEST_SECONDS = 0.005  # from a statement's begin to the kill: within it, after it, or in one of the next
FURTHER = 10  # statements after that one at which it stands still, where who is to kill it is late


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
    from telemetry.message.wire import DeviceInfo, DeviceKind

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


def kill_at_work(draw: random.Random, n_statements: int) -> bool:
    """Kill a process that does the upkeep, in any order of its tasks, at any moment; False where it had done all before."""
    from django.db import connection

    order, last = draw.sample(range(3), 3), draw.randint(1, n_statements)
    moment = draw.uniform(0, LONGEST_SECONDS)
    connection.close()  # each process makes its own
    if hasattr(connection, "close_pool"):
        connection.close_pool()
    marks, mark = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(marks)
        counted(order, partial(_mark, mark, count(1), last + FURTHER))
        os._exit(0)
    os.close(mark)
    for _ in range(last):
        os.read(marks, 1)  # nothing, at once, where the process has ended
    time.sleep(moment)
    os.kill(pid, signal.SIGKILL)
    os.close(marks)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def _mark(mark: int, numbers: Iterator[int], last: int) -> None:
    """Tell of the next statement; at the last one wait for the end."""
    os.write(mark, b".")
    if next(numbers) == last:
        signal.pause()


def counted(order: Sequence[int], note: Callable[[], object]) -> None:
    """Do all that is to be done, and take note of each statement before the database gets it."""
    from django.db import connection

    def noted(execute: Callable[..., object], *asked: object) -> object:
        note()
        return execute(*asked)

    with connection.execute_wrapper(noted):
        upkeep(order)


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


def main(seed: int, times: int, n_statements: int) -> None:
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    fill()
    draw = random.Random(seed)
    killed, left = sum(kill_at_work(draw, n_statements) for _ in range(times)), count()
    counted((0, 1, 2), lambda: next(left))
    call_command("verify_store", stdout=sys.stderr)
    sys.stdout.write(json.dumps({"killed": killed, "statements": next(left), "held": held()}))


if __name__ == "__main__":
    django.setup()
    main(*map(int, sys.argv[1:]))
