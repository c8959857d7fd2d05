"""On SQLite one writes at a time, so that no transaction may be long, whatever there is to do: 100 ms at most.

The amounts are those of one turn of a large fleet: a group of 200 hosts' messages, and some hundred groups of the rollups.
"""

import gc
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest

from fleet.models import Host
from telemetry import rollups
from telemetry.bench.signals import GPUS_PER_HOST, Signals, batch, in_units
from telemetry.decoding import received
from telemetry.health.watch import watch
from telemetry.maintenance import retention
from telemetry.message.wire import pack
from telemetry.models import Chunk, DirtyGroup, GroupRollup, Rollup, RollupGroup, StoredBatch
from telemetry.receiving import ingest
from telemetry.rollups import across
from telemetry.store import host_hour
from telemetry.store.arrival import Arrival
from tests.telemetry.batches import enrolled, payload, take
from tests.telemetry.timed import timed

MOST_SECONDS = 2 * 0.1  # of CPU: on a busy machine, whose caches others use, each takes up to twice as long
N_HOSTS, N_COMPACTED, HOUR = 200, 5, 3_600_000
NOW = datetime.now(UTC)
T0 = int(NOW.timestamp()) // 3600 * HOUR - 3 * HOUR


class Fleet:
    """200 hosts of 8 GPUs with 25 metrics, in 4 clusters, 100 racks and with 10 owners, which live on from group to group."""

    def __init__(self) -> None:
        Host.objects.bulk_create(
            Host(
                name=f"h{n:04}", cluster=f"c{n % 4}", labels={"rack": f"r{n % 100}", "owner": f"o{n % 10}"},
                public_key=sha256(str(n).encode()).digest(), joined_at=NOW,
            )
            for n in range(N_HOSTS)
        )  # fmt: skip
        self.hosts = list(Host.objects.order_by("pk"))
        self._signals, self._at_ms, self._sequence = Signals(N_HOSTS * GPUS_PER_HOST, seed=1), T0, 0

    def arrivals(self, n_ticks: int) -> list[Arrival]:
        """Return the next batches of all, as the ingest has read them."""
        times = [self._at_ms + 1000 * tick for tick in range(n_ticks)]
        values = in_units(self._signals.advance(n_ticks))
        bodies = [
            pack(batch(host.name, f"{at + 1:032x}", self._sequence, times,
                       values[:, at * GPUS_PER_HOST : (at + 1) * GPUS_PER_HOST]))
            for at, host in enumerate(self.hosts)
        ]  # fmt: skip
        self._at_ms, self._sequence = self._at_ms + 1000 * n_ticks, self._sequence + 1
        read = zip(self.hosts, bodies, received.read_last(bodies), strict=True)
        return [ingest._arrival(host, body, found, NOW) for host, body, found in read]

    def come(self, n_ticks: int) -> None:
        for some in ingest._parts(self.arrivals(n_ticks)):
            ingest._store(some, NOW)


@pytest.fixture
def _as_in_a_worker() -> Iterator[None]:
    """The collector looks through what a transaction made, not through all modules and tests: as fleet/celery.py has it."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


@pytest.mark.usefixtures("file_database", "_as_in_a_worker")
def test_none_lasts_100_milliseconds_whoever_writes():
    with timed() as found:
        fleet = Fleet()
        for n_ticks in (10, 10, 60, 60):  # the first ones tell of hosts and devices, too
            fleet.come(n_ticks)
        rollups.roll_up(600, NOW)
        for host in fleet.hosts[:N_COMPACTED]:
            host_hour.compact(host, T0)
        Host.objects.filter(name="h0000").update(cluster="c1", labels={"rack": "r1", "shelf": "s1"})
        rollups.roll_up(600, NOW)
        for seconds in (0, 10, 60):  # all of them fell silent
            watch(NOW + timedelta(hours=1, seconds=seconds))
        retention.retire(NOW + timedelta(days=3000), time.monotonic() + 600)
        retention.retire_groups(NOW + timedelta(days=3000), time.monotonic() + 600)

    assert RollupGroup.objects.count() > 200
    assert not any(model.objects.exists() for model in (StoredBatch, Chunk, Rollup, GroupRollup))
    longest = {by: max(each.cpu_seconds for each in found if each.by == by) for by in {each.by for each in found}}
    assert {by.rpartition(".")[0] for by in longest} >= {
        "telemetry.receiving.ingest", "telemetry.rollups.minutes", "telemetry.rollups.coarser", "telemetry.rollups.across",
        "telemetry.store.groups", "telemetry.store.host_hour", "telemetry.health.alerts", "telemetry.store.partitions",
        "telemetry.maintenance.retention",
    }  # fmt: skip
    assert {by: seconds for by, seconds in longest.items() if seconds >= MOST_SECONDS} == {}


@pytest.mark.usefixtures("file_database")
def test_hosts_that_tell_of_themselves_share_a_transaction_with_fewer():
    fleet = Fleet()

    first, second = ([len(some) for some in ingest._parts(fleet.arrivals(1))] for _ in range(2))

    assert (first, second) == ([66, 66, 66, 2], [200])


@pytest.mark.usefixtures("file_database")
def test_what_is_made_of_many_groups_is_written_in_parts(monkeypatch):
    monkeypatch.setattr(across, "_ROWS", 4)
    for name in ("a", "b"):
        enrolled(name, cluster=name)
        take(payload([T0 + 1000 * n for n in range(60)], {"power_draw_watts": [100.0] * 60}, host=name), NOW)

    with timed() as found:
        rollups.roll_up(600, NOW)

    n_rows = GroupRollup.objects.count()
    assert sum(each.by.startswith(across.__name__) for each in found) >= n_rows / 4 > 1
    assert not DirtyGroup.objects.exists()
