"""The telemetry of a run's own devices beside its steps: which readings there are, their series, and the power per step.

Asks the store by way of telemetry's trends; knows no page. Called by the run page's charts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fleet.models import Device
from telemetry import catalog
from telemetry.series import trends
from telemetry.store.read import Bucketed, BucketedMetric
from training.runs.members import Members
from training.steps.columns import Floats

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
    who: Members

    @property
    def devices(self) -> list[Device]:
        """Return all that the run was on, each once, the newest start's first."""
        line = (self.who, *self.who.before)
        return list({device.pk: device for each in line for device in self._of(each)}.values())

    def held(self, start_ms: int, end_ms: int) -> Iterator[tuple[list[Device], int, int]]:
        """Yield the devices on which the run was from when to when."""
        for who, begin, end in self.who.by_time(start_ms, end_ms):
            yield self._of(who), begin, end

    def _of(self, who: Members) -> list[Device]:
        return who.nodes if self.name.startswith(_NODE) else who.devices

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
    line = (who, *who.before)
    given = _given([each.devices for each in line], _OF_DEVICE, start_ms, end_ms)
    if "sm_active_ratio" in given:
        given.discard("gpu_utilization_ratio")
    of_nodes = _given([each.nodes for each in line], [name for name in _OF_NODE if name not in given], start_ms, end_ms)
    return named([name for name in NAMES if name in given | {_NODE + other for other in of_nodes}], who)


def named(names: Sequence[str], who: Members) -> list[Source]:
    """Return the sources of these NAMES."""
    return [Source(name, who) for name in names]


def series(sources: Sequence[Source], start_ms: int, end_ms: int, points: int) -> dict[str, Bucketed]:
    """Return the series of each source by its name, of each device for the time in which the run was on it.

    What is of the same devices is read at once.
    """
    found: dict[str, Bucketed] = {}
    for of_node in (False, True):
        alike = [source for source in sources if source.name.startswith(_NODE) is of_node]
        if alike:
            metrics = [source.metric for source in alike]
            block = trends.device_series(alike[0].devices, metrics, start_ms, end_ms, points, is_fine=True)
            own = _in_their_time(block, alike[0]) if alike[0].who.before else block
            found |= {source.name: own for source in alike}
    return found


def _in_their_time(block: Bucketed, source: Source) -> Bucketed:
    """Return the block without what devices read while the run was not on them."""
    middles = np.array(block.times_ms) + block.step_seconds * 500
    is_own = {device.uuid: np.zeros(middles.size, bool) for device in source.devices}
    for devices, begin, end in source.held(block.start_ms, block.end_ms):
        for device in devices:
            is_own[device.uuid] |= (begin <= middles) & (middles < end)
    series = {
        uuid: {metric: _only(each, is_own[uuid]) for metric, each in by_metric.items()}
        for uuid, by_metric in block.series.items()
    }
    return replace(block, series=series)


def _only(found: BucketedMetric, keep: NDArray[np.bool_]) -> BucketedMetric:
    mean, low, high = (np.where(keep, each, np.nan) for each in (found.mean, found.minimum, found.maximum))
    return BucketedMetric(mean, low, high)


def _given(line: Sequence[Sequence[Device]], metrics: Sequence[str], start_ms: int, end_ms: int) -> set[str]:
    """Return which of the metrics some device of any start reads; a few of each are looked at."""
    looked_at = list({device.pk: device for devices in line for device in devices[:_LOOKED_AT]}.values())
    if not looked_at or not metrics:
        return set()
    block = trends.device_series(looked_at, metrics, start_ms, end_ms, _COARSE)
    return {
        name for name in metrics
        if any(not np.isnan(block.of(device.uuid, name).mean).all() for device in looked_at)
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Power:
    """Watts of all meters of the time together in buckets of `step_ms` from `start_ms` on; NaN where one is unknown."""

    start_ms: float
    step_ms: float
    watts: Floats

    @classmethod
    def of(cls, block: Bucketed, source: Source) -> "Power":
        times, watts = np.array(block.times_ms), np.full(len(block.times_ms), np.nan)
        middles = times + block.step_seconds * 500
        for devices, begin, end in source.held(block.start_ms, block.end_ms):
            inside = (begin <= middles) & (middles < end)
            if devices:
                watts[inside] = np.sum([block.of(device.uuid, POWER).mean[inside] for device in devices], axis=0)
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
