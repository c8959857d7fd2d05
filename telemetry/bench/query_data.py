"""What the query bench asks about, made once and put into every side alike.

`fleet` is the utilisation of 1,000 GPUs at one sample a minute, over a day and an hour. `host` is one host of 8 GPUs with all 25
metrics each second over the same time, and `month` another with the page's six metrics each minute over 31 days.
The hour more lets each request ask for another window, so that no side answers from what it answered before.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from telemetry.bench.signals import GPUS_PER_HOST, METRICS, Floats, Signals, batch, in_units
from telemetry.message.wire import Batch

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
UTILISATION: Final = "gpu_utilization_ratio"
PAGE_METRICS: Final = (
    UTILISATION, "memory_used_bytes", "power_draw_watts", "temperature_celsius", "sm_clock_hertz", "tensor_active_ratio",
)  # fmt: skip
FLEET_HOSTS = 125
HOST, MONTH = "host-day", "host-month"
FLEET_HOURS, HOST_HOURS, MONTH_HOURS = 25, 25, 31 * 24
_TICKS = 60  # a batch


class Piece(NamedTuple):
    """Readings of one host, `values (n_metrics, n_gpus, n_ticks)` in base units, and the batch that brings them."""

    batch: Batch
    values: Floats
    metrics: Sequence[str]


def fleet(end_ms: int) -> Iterator[Piece]:
    signals = Signals(FLEET_HOSTS * GPUS_PER_HOST, seed=11)
    names = [f"fleet-{n:03}" for n in range(FLEET_HOSTS)]
    yield from _pieces(names, signals, (UTILISATION,), end_ms, FLEET_HOURS, 60)


def host(end_ms: int) -> Iterator[Piece]:
    yield from _pieces([HOST], Signals(GPUS_PER_HOST, seed=12), METRICS, end_ms, HOST_HOURS, 1)


def month(end_ms: int) -> Iterator[Piece]:
    yield from _pieces([MONTH], Signals(GPUS_PER_HOST, seed=13), PAGE_METRICS, end_ms, MONTH_HOURS, 60)


def _pieces(
    names: Sequence[str], signals: Signals, metrics: Sequence[str], end_ms: int, hours: int, every_seconds: int
) -> Iterator[Piece]:
    chosen = [METRICS.index(metric) for metric in metrics]
    span_ms = _TICKS * every_seconds * 1000
    start_ms = end_ms - hours * HOUR_MS
    for sequence in range((end_ms - start_ms) // span_ms):
        values = in_units(signals.advance(_TICKS, every_seconds))[chosen]
        first_ms = start_ms + sequence * span_ms
        times_ms = list(range(first_ms, first_ms + span_ms, every_seconds * 1000))
        for place, name in enumerate(names):
            own = values[:, place * GPUS_PER_HOST : (place + 1) * GPUS_PER_HOST]
            made = batch(name, f"{place + 1:032x}", sequence, times_ms, own, metrics=metrics)
            yield Piece(made, own, metrics)
