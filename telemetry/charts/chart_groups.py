"""The rows of a device's charts: which metrics share one, and what a device shows of them. Called by a device's views.

A counter is drawn as its growth per second: seconds slowed down per second are the share of time, and so a ratio.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from telemetry import catalog
from telemetry.catalog import Kind
from telemetry.charts import figures, traces
from telemetry.charts.figures import Key
from telemetry.charts.traces import Trace
from telemetry.store.read import Bucketed, BucketedMetric, column
from telemetry.store.samples import Floats

_COVERED = 0.9  # of what a bucket beside holds, less one sample: uneven beats
_SERIES = ("s1", "s4", "s3", "s2", "s5", "s6")


@dataclass(frozen=True, slots=True)
class Group:
    """One row: its name in URLs, its label, the base unit of its axis, and the metrics in the order of their lines."""

    key: str
    label: str
    unit: str
    metrics: tuple[str, ...]
    from_zero: bool = True

    def offered(self, metrics: Collection[str]) -> list[str]:
        return [name for name in self.metrics if name in metrics]

    @property
    def id(self) -> str:
        return f"fig-{self.key}"


GROUPS = (
    Group("activity", "Activity", "ratio", ("sm_active_ratio", "tensor_active_ratio", "dram_active_ratio")),
    Group("utilisation", "Utilisation", "ratio", ("gpu_utilization_ratio", "memory_controller_utilization_ratio")),
    Group("power", "Power", "watts", ("power_draw_watts",)),
    Group("temperature", "Temperature", "celsius", ("temperature_celsius", "memory_temperature_celsius"), from_zero=False),
    Group("clocks", "Clocks", "hertz", ("sm_clock_hertz", "memory_clock_hertz"), from_zero=False),
    Group("memory", "Memory used", "bytes", ("memory_used_bytes",)),
    Group("links", "Links", "bytes_per_second",
          ("nvlink_tx_bytes_per_second", "nvlink_rx_bytes_per_second", "pcie_tx_bytes_per_second", "pcie_rx_bytes_per_second")),
    Group("nvlink", "NVLink", "bytes_per_second", ("nvlink_bytes_per_second",)),
    Group("slowed", "Slowed down, share of time", "ratio", ("power_throttle_seconds_total", "thermal_throttle_seconds_total")),
    Group("pipes", "Pipes", "ratio", ("fp64_active_ratio", "fp32_active_ratio", "fp16_active_ratio")),
    Group("occupancy", "SM occupancy", "ratio", ("sm_occupancy_ratio", "graphics_engine_active_ratio")),
    Group("video", "Video", "ratio", ("encoder_utilization_ratio", "decoder_utilization_ratio")),
    Group("fan", "Fan", "ratio", ("fan_speed_ratio",)),
    Group("host-cpu", "Host CPU", "ratio", ("host_cpu_utilization_ratio",)),
    Group("host-memory", "Host memory", "bytes", ("host_memory_used_bytes",)),
    Group("pressure", "Pressure", "ratio",
          ("host_cpu_pressure_ratio", "host_memory_pressure_ratio", "host_io_pressure_ratio")),
    Group("agent-cpu", "Agent CPU, share of a core", "ratio", ("agent_cpu_seconds_total",)),
    Group("agent-memory", "Agent memory", "bytes", ("agent_resident_bytes",)),
    Group("agent-lateness", "Agent lateness", "seconds", ("agent_tick_lateness_seconds",)),
    Group("agent-waiting", "Batches waiting", "batches", ("agent_batches_spooled",)),
)  # fmt: skip
BY_KEY = {group.key: group for group in GROUPS}


def figure(group: Group, metrics: Sequence[str], **options: Any) -> dict[str, Any]:
    """Return the figure of those metrics of a group: one of them as a mean within its band, several as lines."""
    options = {"from_zero": group.from_zero, "is_stacked": True, **options}
    if len(metrics) == 1:
        return figures.as_json(figures.mean_with_band(group.unit, "mean", **options))
    lines = [figures.line(color, dash=dash) for _, color, dash in zip(metrics, _SERIES, figures.DASHES, strict=False)]
    keys = [Key(catalog.BY_NAME[name].label, _SERIES[i], [i]) for i, name in enumerate(metrics)]
    return figures.as_json(figures.figure(lines, unit=group.unit, keys=keys, **options))


def arrays(block: Bucketed, uuid: str, metrics: Sequence[str]) -> dict[str, Any]:
    """Return the values for `figure`, in the order of its traces."""
    found = [levels(block, uuid, name) for name in metrics]
    means = [column(series.mean) for series in found]
    if len(found) == 1:
        low, high = column(found[0].minimum), column(found[0].maximum)
        lines: list[Trace] = traces.mean_with_band(block.times_ms, means[0], low, high)
    else:
        lines = [traces.line(mean) for mean in means]
    return {"traces": lines, **traces.gaps(block.times_ms, means)}


def levels(block: Bucketed, uuid: str, metric: str) -> BucketedMetric:
    """Return what is drawn of a metric: its values, or the growth of a counter per second."""
    found = block.of(uuid, metric)
    if catalog.BY_NAME[metric].kind is not Kind.COUNTER:
        return found
    rate = _rate(found, block.step_seconds)
    return BucketedMetric(rate, rate, rate)


def _rate(found: BucketedMetric, step_seconds: float) -> Floats:
    """Return growth per second of the time in which it was measured, however little of a bucket that is.

    Rollups of before do not tell that time. There only a bucket that is covered as well as those beside it has a rate, as it
    would be too low. One that is made of both kinds tells too little time for its differences, and has none.
    """
    grew = np.concatenate(([np.nan], found.grew, [np.nan]))
    before, after = grew[:-2], grew[2:]
    is_whole = found.grew >= _COVERED * np.maximum(before, after) - 1  # False beside NaN
    of_bucket: Floats = np.where(is_whole, found.increase / step_seconds, np.nan)
    if np.isnan(found.grew_seconds).all():
        return of_bucket
    each = found.grew_seconds / found.grew
    is_told = each >= _COVERED * np.nanmedian(each)
    return np.where(is_told, found.increase / found.grew_seconds, np.where(np.isnan(each), of_bucket, np.nan))
