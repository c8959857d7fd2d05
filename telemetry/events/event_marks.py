"""What happened, as marks on the time axis of charts: XIDs, throttling, another driver. Called by the views that fill charts.

A mark is {"at", "until", "label", "tone", "charts"}, times in UTC milliseconds, as static/js/marks.js reads it.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from fleet.models import Device, Event, EventKind, Host, Severity
from telemetry.events.event_log import Question
from telemetry.health.judgement import HEAT, POWER_BRAKE
from telemetry.nvidia import clock_events
from telemetry.store import unreadable
from telemetry.store.read import Bucketed

REASONS = "clock_event_reasons"
MOST = 60  # marks of a chart: more of them hide what they stand on
_HARDWARE_SLOWDOWN = 0x8
_SLOWED = HEAT | POWER_BRAKE | _HARDWARE_SLOWDOWN
_SHOWN = (EventKind.XID, EventKind.DRIVER_RELEASED, EventKind.DRIVER_RESUMED, EventKind.SOFTWARE_CHANGED)
_TONES = {Severity.CRITICAL: "crit", Severity.WARNING: "warn"}
_SLOWED_CHARTS = ("fig-temperature", "fig-temperature_celsius", "fig-clocks", "fig-sm_clock_hertz")

Mark = dict[str, Any]


def of_events(host: Host, device: Device | None, start_ms: int, end_ms: int) -> list[Mark]:
    """Return the events of a host and its devices, or of one device and its host, in this time: the newest MOST."""
    start, end = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (start_ms, end_ms))
    found = Question(host=host, start=start, end=end).find().filter(kind__in=_SHOWN)
    if device is not None:
        found = found.filter(device__in=[device]) | found.filter(device=None)
    marks = [_mark(event, with_device=device is None) for event in found[:MOST]]
    return marks + _unread(host, device, start_ms, end_ms)


def _unread(host: Host, device: Device | None, start_ms: int, end_ms: int) -> list[Mark]:
    """Return of when samples of the host, or of the device, cannot be read: the newest MOST."""
    rows = unreadable.touching([host.pk], start_ms, end_ms)
    shown = [row for row in rows if device is None or row.uuid in {"", device.uuid}][-MOST:]
    named = {row.uuid for row in shown if device is None}
    titles = {each.uuid: f"{each.title}: " for each in Device.objects.filter(uuid__in=named)} if named else {}
    return [
        {
            "at": row.start_ms,
            "until": row.end_ms,
            "label": f"{titles.get(row.uuid, '')}{unreadable.WORDS}",
            "tone": "warn",
            "charts": None,
        }
        for row in shown
    ]


def _mark(event: Event, *, with_device: bool) -> Mark:
    label = f"XID {event.code}" if event.kind == EventKind.XID else event.get_kind_display()
    if with_device and event.device is not None:
        label = f"{event.device.title}: {label}"
    at = round(event.first_at.timestamp() * 1000)
    return {
        "at": at,
        "until": None,
        "label": label,
        "tone": _TONES.get(Severity(event.severity), "text-2"),
        "charts": None,
    }


def throttling(block: Bucketed, device: Device, charts: Sequence[str]) -> list[Mark]:
    """Return the spans in which a device was slowed by heat, power brake or hardware, for its temperature and clock charts."""
    shown = [chart for chart in charts if chart in _SLOWED_CHARTS]
    seconds = block.of(device.uuid, REASONS).seconds
    if not shown or not seconds:
        return []
    slowed = np.zeros(len(block.times_ms), np.int64)
    for mask, of_bucket in seconds.items():
        slowed |= np.where(np.nan_to_num(of_bucket) > 0, mask & _SLOWED, 0)
    step_ms = round(block.step_seconds * 1000)
    return [
        {
            "at": block.times_ms[first],
            "until": block.times_ms[last] + step_ms,
            "label": ", ".join(clock_events.names(int(np.bitwise_or.reduce(slowed[first : last + 1])))),
            "tone": "warn",
            "charts": shown,
        }
        for first, last in list(_runs(slowed > 0))[-MOST:]
    ]


def _runs(flags: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield the first and last position of each run of true flags."""
    edges = np.flatnonzero(np.diff(flags.astype(np.int8), prepend=0, append=0))
    for first, behind in edges.reshape(-1, 2).tolist():
        yield first, behind - 1
