"""The telemetry of a run's own devices beside its steps: which readings there are, their series, and the power per step.

Asks the store by way of telemetry's trends; knows no page. Called by the run page's charts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fleet.models import Device
from telemetry import catalog, trends
from telemetry.store.read import Bucketed
from training.run_members import Members
from training.step_columns import Floats

POWER = "power_draw_watts"
_OF_DEVICE = (POWER, "sm_active_ratio", "gpu_utilization_ratio", "temperature_celsius", "sm_clock_hertz")
_OF_NODE = (POWER, "host_cpu_utilization_ratio")
_NODE = "node."  # before a metric's name in an address: that of the hosts as wholes
NAMES = (*_OF_DEVICE, *(_NODE + name for name in _OF_NODE))
_LOOKED_AT = 4  # devices: what they offer, all of a run's do
_COARSE = 49  # buckets


@dataclass(frozen=True, slots=True)
class Source:
    """A metric, and whose readings of it are shown: the run's devices, or its hosts as wholes where these give none."""

    name: str
    devices: list[Device]

    @property
    def metric(self) -> str:
        return self.name.removeprefix(_NODE)

    @property
    def label(self) -> str:
        label = catalog.BY_NAME[self.metric].label
        return f"{label} at the wall" if self.name == _NODE + POWER else label

    @property
    def unit(self) -> str:
        return catalog.BY_NAME[self.metric].unit

    @property
    def noun(self) -> str:
        kinds = {device.get_kind_display() for device in self.devices}
        noun = kinds.pop() if len(kinds) == 1 else "device"
        return noun if len(self.devices) == 1 else f"{noun}s"


def offered(who: Members, start_ms: int, end_ms: int) -> list[Source]:
    """Return what is read of a run within the window, in the order of the charts.

    Where SMs tell how active they are, utilisation says less and is left out.
    """
    given = _given(who.devices, _OF_DEVICE, start_ms, end_ms)
    if "sm_active_ratio" in given:
        given.discard("gpu_utilization_ratio")
    of_nodes = _given(who.nodes, [name for name in _OF_NODE if name not in given], start_ms, end_ms)
    return named([name for name in NAMES if name in given | {_NODE + other for other in of_nodes}], who)


def named(names: Sequence[str], who: Members) -> list[Source]:
    """Return the sources of these NAMES."""
    return [Source(name, who.nodes if name.startswith(_NODE) else who.devices) for name in names]


def series(sources: Sequence[Source], start_ms: int, end_ms: int, points: int) -> dict[str, Bucketed]:
    """Return the series of each source by its name; what is of the same devices is read at once."""
    found: dict[str, Bucketed] = {}
    for of_node in (False, True):
        alike = [source for source in sources if source.name.startswith(_NODE) is of_node]
        if alike:
            metrics = [source.metric for source in alike]
            block = trends.device_series(alike[0].devices, metrics, start_ms, end_ms, points, is_fine=True)
            found |= {source.name: block for source in alike}
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
        return cls(float(block.times_ms[0]), block.step_seconds * 1000, watts)

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
