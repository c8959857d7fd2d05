"""What a scrape of /metrics costs beyond its queries: 1,000 GPUs with every metric, beside prometheus_client."""

import statistics
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from fleet.models import Device, DeviceKind, Host
from telemetry import exposition
from telemetry.bench.figure import Figure
from telemetry.catalog import METRICS, Kind
from telemetry.exposition import DEVICE_LABELS, Names
from telemetry.health import Health
from telemetry.queries import DeviceState, FleetState, HostState
from telemetry.textformat import render

HOSTS, GPUS_PER_HOST = 125, 8
_ROUNDS = 7
_NOW = datetime(2026, 1, 1, tzinfo=UTC)


def run() -> list[Figure]:
    """Return the medians of some rounds; the two sides take turns."""
    state = fleet()
    peer = PeerCollector(state)
    sides: dict[str, Callable[[], object]] = {
        "own": lambda: text(state, [Names.STEPWATT]),
        "both": lambda: text(state, list(Names)),
        "peer": lambda: generate_latest(peer),
    }
    seconds = {name: statistics.median(times) for name, times in _take_turns(sides).items()}
    size = f"{HOSTS * GPUS_PER_HOST:,} GPUs × {len(METRICS)} metrics"
    return [
        Figure(
            name=f"exposition, {size}, own names",
            value=seconds["own"] * 1000,
            unit="ms",
            peer="prometheus_client",
            peer_value=seconds["peer"] * 1000,
            target="faster than its peer",
            met=seconds["own"] < seconds["peer"],
        ),
        Figure(name=f"exposition, {size}, own and DCGM names", value=seconds["both"] * 1000, unit="ms"),
    ]


class PeerCollector(Collector):
    """The readings under the own names, as a program built on prometheus_client hands them over."""

    def __init__(self, state: FleetState) -> None:
        self._state = state

    def collect(self) -> Iterable[GaugeMetricFamily | CounterMetricFamily]:
        devices = [d for host in self._state.hosts for d in host.devices]
        for metric in METRICS:
            build = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
            family = build(f"stepwatt_{metric.name}", metric.help, labels=DEVICE_LABELS)
            for d in devices:
                host = d.device.host
                family.add_metric([host.name, host.cluster, str(d.device.index), d.device.uuid], d.values[metric.name])
            yield family


def text(state: FleetState, names: list[Names]) -> str:
    return render(exposition.of_telemetry(state, names), openmetrics=False)


def _take_turns(sides: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(_ROUNDS):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def fleet() -> FleetState:
    return FleetState(_NOW, [_host(number) for number in range(HOSTS)])


def _host(number: int) -> HostState:
    host = Host(name=f"gpu-{number:03}", cluster="alpha", last_seen_at=_NOW, heard_at=_NOW)
    return HostState(host, Health.OK, "", [_device(host, number, index) for index in range(GPUS_PER_HOST)])


def _device(host: Host, number: int, index: int) -> DeviceState:
    device = Device(
        host=host,
        uuid=f"GPU-{number:08x}-0000-0000-0000-{index:012x}",
        kind=DeviceKind.NVIDIA,
        index=index,
        model="NVIDIA H100 80GB HBM3",
        pci_bus_id=f"00000000:{index:02X}:00.0",
        driver_version="580.105.08",
    )
    steps = 987_600_000 + 37 * number + 11 * index
    values = {metric.name: round(steps * metric.resolution, 4) for metric in METRICS}  # digits as a reading has them
    return DeviceState(device, Health.OK, "", _NOW, _NOW, values, {})
