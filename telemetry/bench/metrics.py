"""What a scrape of the whole fleet costs: from readings to bytes beside prometheus_client, and over HTTP beside pages.

The peer is handed its families finished and only writes them: what a program built on it does before is not counted.
"""

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from telemetry.bench import gpu_fleet, scraping
from telemetry.bench.figure import Figure
from telemetry.catalog import Kind
from telemetry.exposition.fragments import HostFragments
from telemetry.exposition.own_names import DEVICE_LABELS, Names
from telemetry.exposition.presence import HostNow
from telemetry.exposition.scrape import Fleet, Wanted

MOST_MS, TIMES_ALL, TIMES_TENTH = 300, 8, 15
_ROUNDS = 5
_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_OWN, _DCGM = (Names.STEPWATT,), (Names.DCGM,)
Sides = dict[str, Callable[[], float]]  # each does its work once and returns the seconds that count


def run() -> list[Figure]:
    """Return the medians of some rounds, in which the sides take turns; then what scrapes over HTTP show."""
    return [*_rendering(), *scraping.run()]


class Scrapes:
    """The exposition's side: readings as the database gives them, up to the bytes of the body."""

    def __init__(self) -> None:
        self._hosts = gpu_fleet.hosts(_NOW)
        self._identities = [gpu_fleet.identities(host) for host in self._hosts]
        self._fragments = [HostFragments(HostNow(host, is_silent=True, devices=())) for host in self._hosts]
        self._fleet = Fleet()
        self._at_ms = gpu_fleet.milliseconds(_NOW)

    def change(self, every: int) -> list[tuple[int, gpu_fleet.Readings]]:
        """Return new readings of each `every`-th host; not counted, for they come from the agents."""
        self._at_ms += 1000
        return [(n, gpu_fleet.readings(self._hosts[n], self._at_ms)) for n in range(0, len(self._hosts), every)]

    def tell(self, changed: Iterable[tuple[int, gpu_fleet.Readings]]) -> None:
        for n, readings in changed:
            now = HostNow.of(self._hosts[n], self._identities[n], self._at_ms, readings, is_silent=False)
            self._fragments[n].tell(now)

    def body(self, names: tuple[Names, ...], *, gzip: bool = False) -> bytes:
        return self._fleet.join(Wanted(names, gzip=gzip), self._fragments, [])

    def seconds(self, names: tuple[Names, ...], every: int) -> float:
        changed = self.change(every)

        def from_readings_to_bytes() -> None:
            self.tell(changed)
            self.body(names)

        return _seconds(from_readings_to_bytes)

    def seconds_of_gzip(self, every: int) -> float:
        """The way from finished lines to a compressed body."""
        self.tell(self.change(every))
        self.body(_OWN)  # makes the lines
        return _seconds(lambda: self.body(_OWN, gzip=True))


class PeerCollector(Collector):
    """The readings under the own names, as metric families of prometheus_client; finished before the clock starts."""

    def __init__(self, at_ms: int) -> None:
        hosts = gpu_fleet.hosts(_NOW)
        rows = [(host, gpu_fleet.identities(host), gpu_fleet.readings(host, at_ms)) for host in hosts]
        self._families: list[GaugeMetricFamily | CounterMetricFamily] = []
        for metric in gpu_fleet.GIVEN:
            build = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
            family = build(f"stepwatt_{metric.name}", metric.help, labels=DEVICE_LABELS)
            for host, identities, readings in rows:
                for d in identities:
                    value = readings[d.uuid]["values"][metric.name]
                    family.add_metric([host.name, host.cluster, str(d.index), d.uuid], value)
            self._families.append(family)

    def collect(self) -> Sequence[GaugeMetricFamily | CounterMetricFamily]:
        return self._families


def _rendering() -> list[Figure]:
    scrapes, peer = Scrapes(), PeerCollector(gpu_fleet.milliseconds(_NOW))
    first = scrapes.seconds(_OWN, 1)
    for names in (_OWN, _DCGM):
        scrapes.seconds(names, 1)
    scrapes.body(_OWN, gzip=True)
    sides: Sides = {
        "all": lambda: scrapes.seconds(_OWN, 1),
        "tenth": lambda: scrapes.seconds(_OWN, 10),
        "dcgm": lambda: scrapes.seconds(_DCGM, 1),
        "both": lambda: scrapes.seconds((*_OWN, *_DCGM), 1),
        "gzip": lambda: scrapes.seconds_of_gzip(1),
        "gzip tenth": lambda: scrapes.seconds_of_gzip(10),
        "peer": lambda: _seconds(lambda: generate_latest(peer)),
    }
    ms = {name: 1000 * statistics.median(times) for name, times in _take_turns(sides).items()}
    return [
        _beside("own names, all hosts changed", ms["all"], ms["peer"], TIMES_ALL, MOST_MS),
        _beside("own names, 10 % of hosts changed", ms["tenth"], ms["peer"], TIMES_TENTH),
        _alone("DCGM names, all hosts changed", ms["dcgm"]),
        _alone("own and DCGM names, all hosts changed", ms["both"]),
        _alone("own names, first scrape of all", first * 1000),
        _alone("from lines to gzip, all hosts changed", ms["gzip"]),
        _alone("from lines to gzip, 10 % of hosts changed", ms["gzip tenth"]),
    ]


def _beside(name: str, own_ms: float, peer_ms: float, times: int, most_ms: int | None = None) -> Figure:
    limit = f"at most {most_ms} ms, and " if most_ms else ""
    return Figure(
        name=f"exposition, {gpu_fleet.size()}, {name}",
        value=own_ms,
        unit="ms",
        peer="prometheus_client",
        peer_value=peer_ms,
        target=f"{limit}{times} × faster",
        met=own_ms * times <= peer_ms and (most_ms is None or own_ms <= most_ms),
    )


def _alone(name: str, own_ms: float) -> Figure:
    return Figure(name=f"exposition, {gpu_fleet.size()}, {name}", value=own_ms, unit="ms")


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _take_turns(sides: Sides) -> dict[str, list[float]]:
    """Garbage of one side is collected before the next begins: nobody pays for another."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(_ROUNDS):
        for name, side in sides.items():
            gc.collect()
            seconds[name].append(side())
    return seconds
