"""What telemetry saw of devices and their hosts in a time, and in the time before it: the evidence that causes.py judges.

Asks telemetry's read side: samples where there are any, else rollups; XIDs from the events; who used a device only while that is
the newest that is known. Called by why_slow.py and judging/causes.py.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from statistics import median
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fleet.models import Device, EventKind
from telemetry import catalog
from telemetry.catalog import Kind
from telemetry.events import event_log
from telemetry.events.event_log import Question
from telemetry.newest import queries
from telemetry.nvidia import clock_events
from telemetry.series import trends
from telemetry.store.read import Bucketed
from telemetry.store.samples import Floats
from training.runs.causes import Evidence, Reading

_GAUGES = (
    "temperature_celsius", "memory_temperature_celsius", "sm_clock_hertz", "power_draw_watts", "power_limit_watts",
)  # fmt: skip
_HOST_GAUGES = (
    "host_cpu_pressure_ratio", "host_memory_pressure_ratio", "host_io_pressure_ratio", "host_cpu_utilization_ratio",
)  # fmt: skip
_COUNTERS = ("pcie_replay_total", "ecc_corrected_total", "ecc_uncorrected_total", "nvlink_errors_total")
_REASONS, _LINK = "clock_event_reasons", ("pcie_link_width", "pcie_link_generation")
_READ = (*_GAUGES, *_HOST_GAUGES, *_COUNTERS, _REASONS, *_LINK)
_PACE_MS = 5_000  # slow readings come each five seconds: a shorter step is looked at with what lies around it
_BEFORE_LEAST_MS, _BEFORE_MOST_MS, _BEFORE_TIMES = 300_000, 1_800_000, 5
_USERS_KNOWN_MS = 60_000


class Window(NamedTuple):
    """The time in question, and what counts as before: from `before_ms` until `before_end_ms`."""

    before_ms: int
    before_end_ms: int
    start_ms: int
    end_ms: int

    @classmethod
    def around(cls, start_ms: float, end_ms: float) -> "Window":
        """Return the window of a step or a slow stretch, widened so that slow readings lie in it."""
        start, end = int(start_ms) - _PACE_MS, int(end_ms) + _PACE_MS
        before = min(max(_BEFORE_LEAST_MS, _BEFORE_TIMES * (end - start)), _BEFORE_MOST_MS)
        return cls(start - before, start, start, end)


@dataclass(frozen=True, slots=True)
class _Masks:
    """Which buckets lie in the time in question and which before it, each `(n_buckets,)`."""

    during: NDArray[np.bool_]
    before: NDArray[np.bool_]

    @classmethod
    def of(cls, block: Bucketed, window: Window) -> "_Masks":
        times, step_ms = np.array(block.times_ms), block.step_seconds * 1000
        during = (times + step_ms > window.start_ms) & (times < window.end_ms)
        return cls(during, (times + step_ms <= window.before_end_ms) & (times >= window.before_ms))

    def mean(self, values: Floats) -> Reading:
        return Reading(_mean(values[self.during]), _mean(values[self.before]))

    def growth(self, values: Floats) -> Reading:
        """Return the growths, that of before as of a time as long as the one in question."""
        now, then = values[self.during], values[self.before]
        n_then = np.isfinite(then).sum()
        before = float(np.nansum(then)) * now.size / n_then if n_then else None
        return Reading(float(np.nansum(now)) if np.isfinite(now).any() else None, before)


def evidence(
    devices: Sequence[Device],
    nodes: Mapping[int, Device],
    window: Window,
    pids: Mapping[int, Collection[int]],
    now: datetime,
) -> dict[str, Evidence]:
    """Return what was seen of each device, by UUID; `nodes` is a host's own device and `pids` the run's, by host id.

    The host's own readings stand in the evidence of each of its devices; a node may be among the devices.
    """
    read = {device.pk: device for device in (*devices, *(nodes[d.host_id] for d in devices if d.host_id in nodes))}
    # The finest points that the read side gives: a bucket should not be longer than what is asked about.
    block = trends.device_series(list(read.values()), _READ, window.before_ms, window.end_ms, trends.MAX_POINTS)
    masks = _Masks.of(block, window)
    states = _states(block)
    found = {}
    for device in devices:
        own = _of_device(device, block, states.get(device.uuid, {}), masks)
        node = nodes.get(device.host_id)
        host = {} if node is None else {name: masks.mean(block.of(node.uuid, name).mean) for name in _HOST_GAUGES}
        is_seen = any(reading.during is not None for reading in own.gauges.values())
        found[device.uuid] = replace(
            own,
            gauges={**host, **own.gauges},
            xids=_xids(device, window) if is_seen else None,
            others=_others(device, window, pids, now),
        )
    return found


def _of_device(device: Device, block: Bucketed, states: Mapping[str, Mapping[int, Floats]], masks: _Masks) -> Evidence:
    gauges = {name: masks.mean(block.of(device.uuid, name).mean) for name in _GAUGES}
    gauges |= {name: _usual_state(states[name], masks) for name in _LINK if name in states}
    growths = {name: masks.growth(block.of(device.uuid, name).increase) for name in _COUNTERS}
    reasons = _reasons(states[_REASONS], masks) if _REASONS in states else None
    return Evidence(str(device), gauges, growths, reasons)


def _states(block: Bucketed) -> dict[str, dict[str, dict[int, Floats]]]:
    """Return seconds at each value per bucket, `(n_buckets,)`, by device and state metric."""
    names = [name for name in (_REASONS, *_LINK) if catalog.BY_NAME[name].kind is Kind.STATE]
    return {
        uuid: {name: series[name].seconds for name in names if name in series and series[name].seconds}
        for uuid, series in block.series.items()
    }


def _reasons(seconds: Mapping[int, Floats], masks: _Masks) -> Mapping[int, Reading]:
    """Return the share of time at which each clock event reason held."""
    bits = [bit for bit in clock_events.REASONS if any(value & bit for value in seconds)]
    parts = [
        {value: float(np.nansum(column[mask])) for value, column in seconds.items()}
        for mask in (masks.during, masks.before)
    ]
    wholes = [sum(part.values()) for part in parts]
    if not wholes[0]:
        return {}
    return {
        bit: Reading(*(
            sum(length for value, length in part.items() if value & bit) / whole if whole else None
            for part, whole in zip(parts, wholes, strict=True)
        ))
        for bit in bits
    }  # fmt: skip


def _usual_state(seconds: Mapping[int, Floats], masks: _Masks) -> Reading:
    """Return the value that held longest."""
    longest = []
    for mask in (masks.during, masks.before):
        lengths = {value: float(np.nansum(column[mask])) for value, column in seconds.items()}
        value, length = max(lengths.items(), key=lambda each: each[1])
        longest.append(float(value) if length else None)
    return Reading(*longest)


def _mean(values: Floats) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else None


def _xids(device: Device, window: Window) -> tuple[int, ...]:
    start, end = (datetime.fromtimestamp(at / 1000, UTC) for at in (window.start_ms, window.end_ms))
    found = event_log.newest(Question(device=device, kind=EventKind.XID, start=start, end=end), 20)
    # Equal XIDs are one event from the first to the last: what lies between the two is not known to be in this time.
    return tuple(
        event.code
        for event in found
        if event.code is not None and (start <= event.first_at < end or start <= event.last_at < end)
    )


def _others(
    device: Device, window: Window, pids: Mapping[int, Collection[int]], now: datetime
) -> tuple[str, ...] | None:
    """Return the programs on the device that are not the run's; None where it is not known who used it then."""
    own = pids.get(device.host_id)
    if not own or now.timestamp() * 1000 - window.end_ms > _USERS_KNOWN_MS:
        return None
    users = queries.device_state(device, now).users
    if users is None or users.at.timestamp() * 1000 < window.start_ms - _USERS_KNOWN_MS:
        return None
    return tuple(
        f"{process.command or 'pid'} ({process.user or process.pid})"
        for process in users.processes
        if process.pid not in own
    )


def beside_others(own: Evidence, others: Sequence[Evidence]) -> Evidence:
    """Return the evidence with the other devices' median in the same time in place of what was before.

    For a device that was slow from the first: then there is no time before.
    """
    reasons = {bit for each in (own, *others) for bit in each.reasons or {}}
    return replace(
        own,
        gauges={name: Reading(own.gauge(name).during, _median(each.gauge(name) for each in others)) for name in own.gauges},
        growths={name: Reading(own.growth(name).during, _median(each.growth(name) for each in others)) for name in own.growths},
        reasons=None if own.reasons is None else {
            bit: Reading(_held(own, bit).during, _median(_held(each, bit) for each in others)) for bit in reasons
        },
        beside="the others",
    )  # fmt: skip


def _held(of: Evidence, bit: int) -> Reading:
    """Return how long a reason held; one that nobody saw held for no time, where reasons are known at all."""
    return (of.reasons or {}).get(bit, Reading(None if of.reasons is None else 0.0))


def _median(readings: Iterable[Reading]) -> float | None:
    known = [reading.during for reading in readings if reading.during is not None]
    return median(known) if known else None
