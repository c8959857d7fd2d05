"""The telemetry of a run's own devices beside its steps: which readings there are, their series, and the power per step.

Asks the store by way of telemetry's trends; knows no page. Called by the run page's charts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fleet.models import Device
from telemetry import catalog, trends
from telemetry.store.read import Bucketed
from training.step_columns import Floats

POWER = "power_draw_watts"
_METRICS = (POWER, "sm_active_ratio", "gpu_utilization_ratio", "temperature_celsius", "sm_clock_hertz")
_OF_NODE = {POWER, "host_cpu_utilization_ratio"}
_LOOKED_AT = 4  # devices: what they offer, all of a run's do
_COARSE = 49  # buckets


@dataclass(frozen=True, slots=True)
class Source:
    """A metric, and whose readings of it are shown: the run's devices, or its hosts as wholes where these give none."""

    metric: str
    devices: list[Device]
    noun: str

    @property
    def label(self) -> str:
        return catalog.BY_NAME[self.metric].label

    @property
    def unit(self) -> str:
        return catalog.BY_NAME[self.metric].unit


def sources(devices: Sequence[Device], nodes: Sequence[Device], start_ms: int, end_ms: int) -> list[Source]:
    """Return what is read of a run within the window, in the order of the charts.

    Where SMs tell how active they are, utilisation says less and is left out.
    """
    given = _given(devices, _METRICS, start_ms, end_ms)
    of_nodes = _given(nodes, [name for name in _OF_NODE if name not in given], start_ms, end_ms)
    found = []
    for name in (*_METRICS, "host_cpu_utilization_ratio"):
        if name in given and not (name == "gpu_utilization_ratio" and "sm_active_ratio" in given):
            found.append(Source(name, list(devices), _noun(devices)))
        elif name in of_nodes:
            found.append(Source(name, list(nodes), _noun(nodes)))
    return found


def _given(devices: Sequence[Device], metrics: Sequence[str], start_ms: int, end_ms: int) -> set[str]:
    looked_at = list(devices)[:_LOOKED_AT]
    if not looked_at or not metrics:
        return set()
    block = trends.device_series(looked_at, metrics, start_ms, end_ms, _COARSE)
    return {
        name for name in metrics
        if any(not np.isnan(block.of(device.uuid, name).mean).all() for device in looked_at)
    }  # fmt: skip


def _noun(devices: Sequence[Device]) -> str:
    kinds = {device.get_kind_display() for device in devices}
    noun = kinds.pop() if len(kinds) == 1 else "device"
    return noun if len(devices) == 1 else f"{noun}s"


@dataclass(frozen=True, slots=True)
class Power:
    """Watts of all meters together in buckets of `step_ms` from `start_ms` on; NaN where one of them is unknown."""

    start_ms: float
    step_ms: float
    watts: Floats

    @classmethod
    def of(cls, block: Bucketed, devices: Sequence[Device]) -> "Power":
        columns: Mapping[str, Floats] = {device.uuid: block.of(device.uuid, POWER).mean for device in devices}
        watts = np.sum(list(columns.values()), axis=0) if columns else np.full(len(block.times_ms), np.nan)
        first, step, _ = block.shape
        return cls(float(first), float(step), watts)

    def mean(self, start_ms: Floats, end_ms: Floats) -> Floats:
        """Return the mean power of each span `(n,)`; NaN where a bucket of it is unknown, or beyond what was read."""
        edges = self.start_ms + np.arange(self.watts.size + 1) * self.step_ms
        unknown = np.isnan(self.watts)
        joules = np.concatenate(([0.0], np.cumsum(np.where(unknown, 0.0, self.watts) * self.step_ms / 1000)))
        missing = np.concatenate(([0], np.cumsum(unknown)))
        first = np.clip(np.floor((start_ms - self.start_ms) / self.step_ms), 0, self.watts.size).astype(np.int64)
        last = np.clip(np.ceil((end_ms - self.start_ms) / self.step_ms), 0, self.watts.size).astype(np.int64)
        is_known = (missing[last] == missing[first]) & (start_ms >= edges[0]) & (end_ms <= edges[-1])
        spent = np.interp(end_ms, edges, joules) - np.interp(start_ms, edges, joules)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(is_known, spent / ((end_ms - start_ms) / 1000), np.nan)
