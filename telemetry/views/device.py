"""One device: facts, tiles, charts, health, processes, parts, every reading. Answers as page and as its live fragment."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode

import numpy as np
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from fleet.models import Device, DeviceKind
from fleet.pages import timerange
from fleet.web.csv_answer import asked_table, csv_answer
from telemetry import catalog
from telemetry.charts import chart_groups
from telemetry.charts.chart_groups import Group
from telemetry.charts.figures import Reference
from telemetry.events import event_log
from telemetry.events.event_log import Question
from telemetry.health import is_read
from telemetry.newest import queries
from telemetry.newest.fleet_state import DeviceState, HostState
from telemetry.series import trends
from telemetry.store.samples import Floats
from telemetry.views import device_panels, table_files
from telemetry.views.device_panels import Readings
from telemetry.views.host import METRICS, arrays_now, marks_of, metric_label, recorded, references
from telemetry.views.host_panels import User

N_EVENTS = 6
_DAY = timedelta(days=1)
_DAY_POINTS = 97  # quarters of an hour: what is shown begins at most one of them too early
_DAY_METRICS = (
    "power_throttle_seconds_total",
    "thermal_throttle_seconds_total",
    "ecc_corrected_total",
    "xid_errors_total",
    "pcie_replay_total",
    "nvlink_errors_total",
)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the charts."""

    id: str
    label: str
    figure: dict[str, Any]
    absent: str = ""


@dataclass(frozen=True, slots=True)
class Growth:
    """How much a counter grew; None where no sample tells."""

    label: str
    unit: str
    value: float | None


@require_safe
def device(request: HttpRequest, uuid: str) -> HttpResponse:
    found, now = _device(uuid), timezone.now()
    host = queries.host_state(found.host, now)
    state = host.of(found)
    if (file := asked_table(request.GET, _files(state, host))) is not None:
        return file
    context = {
        "state": state,
        "whole": host.whole_of(found),
        "siblings": [d.device for d in (host.parts_of_same(found) if state.is_part else host.wholes)],
        "tiles": device_panels.tiles(state, host),
        "memory": device_panels.memory(state),
        "links": device_panels.links(state),
        "readings": device_panels.readings(state),
        "parts": host.parts_of(found),
        "is_node": found.kind == DeviceKind.NODE,
        "own_users": _users(state),
        "events": event_log.newest(Question(device=found), N_EVENTS),
        "events_query": urlencode({"device": found.uuid}),
    }
    if request.htmx:  # type: ignore[attr-defined]  # set by django-htmx's middleware
        return render(request, "telemetry/_device.html", context)
    return render(request, "telemetry/device.html", context | _charts(request, state))


def _files(state: DeviceState, host: HostState) -> Mapping[str, Callable[[], HttpResponse]]:
    name = f"{host.host.name}-{state.device.title.lower().replace(' ', '-')}"
    return {
        "users": lambda: table_files.users(name, _users(state)),
        "parts": lambda: table_files.parts(name, host.parts_of(state.device)),
        "readings": lambda: _readings_file(name, device_panels.readings(state)),
    }


def _readings_file(name: str, found: Readings) -> HttpResponse:
    rows = ((r.metric.name, r.value, r.metric.unit, r.words, r.absent) for r in (*found.known, *found.absent))
    return csv_answer(f"{name}-readings", ("metric", "value", "unit", "words", "why_absent"), rows)


def _users(state: DeviceState) -> list[User]:
    return [User(state, process) for process in state.users.processes] if state.users else []


@require_safe
def day(request: HttpRequest, uuid: str) -> HttpResponse:
    """What the device's counters grew by in a day; read from the rollups, once a minute is enough."""
    found, now = _device(uuid), timezone.now()
    start_ms, end_ms = _ms(now - _DAY), _ms(now)
    block = trends.device_series([found], _DAY_METRICS, start_ms, end_ms, _DAY_POINTS)
    series = block.series.get(found.uuid, {})
    rows = [Growth(catalog.BY_NAME[name].label, catalog.BY_NAME[name].unit, _sum(series[name].increase))
            for name in _DAY_METRICS if name in series]  # fmt: skip
    return render(request, "telemetry/_day.html", {"rows": rows})


def _sum(increase: Floats) -> float | None:
    known = increase[~np.isnan(increase)]
    return float(known.sum()) if known.size else None


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _device(uuid: str) -> Device:
    found = Device.objects.select_related("host").filter(uuid=uuid).first()
    if found is None:
        raise Http404(f"There is no device {uuid}.")
    return found


def _charts(request: HttpRequest, state: DeviceState) -> dict[str, object]:
    window = timerange.of_query(request.GET, timezone.now())
    # A silent or lost device says nothing of what it offers: the metrics that most devices have are asked for.
    given = state.values if is_read(state.values) else set(METRICS)
    offered = {group.key: group.offered(given) for group in chart_groups.GROUPS}
    shown = [group for group in chart_groups.GROUPS if offered[group.key]]
    rows = []
    for group in shown:
        metrics, is_last = offered[group.key], group is shown[-1]
        limits = references([state], metrics[0]) if len(metrics) == 1 else ()
        figure = _described(group, tuple(metrics), limits, is_last=is_last)
        is_whole = len(metrics) > 1 or len(group.metrics) == 1
        rows.append(Row(group.id, group.label if is_whole else metric_label(metrics[0], [state]), figure))
    wanted = {
        "range": window.key,
        "chart": [group.key for group in shown],
        "metric": [name for names in offered.values() for name in names],
    }
    arrays = f"{reverse('device-arrays', args=[state.device.uuid])}?{urlencode(wanted, doseq=True)}"
    return {
        "range": window,
        "charts": rows,
        "arrays": arrays,
        "arrays_now": arrays_now(request, arrays) if rows else "",
        "marks": marks_of(state.device.host, state.device),
        "recorded": recorded(request, state.device.host, window),
    }


@lru_cache(maxsize=256)
def _described(
    group: Group, metrics: tuple[str, ...], limits: tuple[Reference, ...], *, is_last: bool
) -> dict[str, Any]:
    """Return what plotly takes longer to make than all else of the page."""
    return chart_groups.figure(group, metrics, shows_ticks=is_last, references=limits, painter="uplot")
