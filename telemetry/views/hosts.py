"""The table of hosts: the host map's equal for reading, sorting and copying. Answers as page, as its table, and as CSV.

Filter, order and page stand in the address and are applied here, so that a fleet of a thousand hosts is as quick as one of ten.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from django.core.exceptions import BadRequest
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from fleet import sorting
from fleet.csv_answer import csv_answer
from fleet.models import Host
from telemetry import glance, host_columns, host_lines, queries
from telemetry.health import Health
from telemetry.health.judgement import GRAVITY
from telemetry.host_columns import HostColumns
from telemetry.host_lines import Line
from telemetry.queries import DeviceState, HostState

PAGE_SIZE = 50
_MODEL = re.compile(r"\b([A-Z]{1,3}\d{2,4}[A-Z]?)\b")
_IDLE = "idle"
_SHAPES = {Health.WARN.value: "Warning", Health.CRIT.value: "Critical", Health.SILENT.value: "Silent", _IDLE: "Idle"}


@dataclass(frozen=True, slots=True)
class Row:
    """One host over its counted devices; a figure is None where no device gives it."""

    state: HostState
    devices: str
    utilisation: float | None
    tensor: float | None
    memory: float | None
    power: float | None
    hottest: DeviceState | None
    unknown: str

    @property
    def temperature(self) -> float | None:
        return self.hottest.values["temperature_celsius"] if self.hottest else None

    @property
    def short(self) -> str:
        """What the devices are, by the model's own word, such as "8 × H100": the column is narrow, its title has the whole."""
        return ", ".join(_shorter(part) for part in self.devices.split(", "))


_KEYS: Mapping[str, Callable[[Line], Any]] = {
    "host": lambda line: line.host.name,
    "state": lambda line: GRAVITY[line.health],
    "cluster": lambda line: line.host.cluster,
    "devices": lambda line: line.devices,
    "utilisation": lambda line: line.utilisation,
    "tensor": lambda line: line.tensor,
    "memory": lambda line: line.memory,
    "power": lambda line: line.power,
    "temperature": lambda line: line.temperature,
    "seen": lambda line: line.seen,
}
_OF_COLUMNS: Mapping[str, Callable[[HostColumns], Any]] = {
    "job": lambda own: own.job,
    "baseline": lambda own: own.deviation,
}
_NOTHING = HostColumns()
_CSV = ("host", "cluster", "state", "note", "devices", "gpu_utilization_ratio", "tensor_active_ratio", "memory_used_ratio",
        "power_draw_watts", "temperature_celsius", "last_sample", "job", "job_owner",
        "baseline_deviation_ratio")  # fmt: skip


@require_safe
def hosts(request: HttpRequest) -> HttpResponse:
    order = sorting.of_query(request.GET, [*_KEYS, *_OF_COLUMNS], "host")
    words, state = request.GET.get("q", "").lower().split(), request.GET.get("state", "")
    if state and state not in _SHAPES:
        raise BadRequest(f"state: expected one of {', '.join(_SHAPES)}")
    now = timezone.now()
    every = host_lines.lines(glance.of_this_process().look(now))
    labels = dict(Host.objects.values_list("pk", "labels")) if words else {}
    named = [line for line in every if line.holds(words, labels.get(line.host.pk, {}))]
    shown = [line for line in named if _is_in(line, state)]
    is_csv = request.GET.get("format") == "csv"
    columns = _columns(shown) if is_csv or order.key in _OF_COLUMNS else {}
    found = order.arranged(shown, partial(_value, order.key, columns))
    if is_csv:
        rows = _rows(found, now)
        return csv_answer("hosts", _CSV, (_csv_row(row, columns.get(row.state.host.pk, _NOTHING)) for row in rows))
    page = Paginator(found, PAGE_SIZE).get_page(request.GET.get("page"))
    rows = _rows(list(page), now)
    context = {
        "rows": rows,
        "columns": columns or host_columns.of_hosts([row.state.host for row in rows]),
        "page": page,
        "sorting": order,
        "path": request.get_full_path(),
        "is_long": len(every) > PAGE_SIZE,
    }
    if request.htmx:  # type: ignore[attr-defined]  # set by django-htmx's middleware
        return render(request, "telemetry/_hosts.html", context)
    chips = [(key, label, sum(_is_in(line, key) for line in named)) for key, label in _SHAPES.items()]
    still = {
        "chips": chips,
        "n_named": len(named),
        "n_hosts": len(every),
        "q": request.GET.get("q", ""),
        "state": state,
    }
    return render(request, "telemetry/hosts.html", context | still)


def _is_in(line: Line, state: str) -> bool:
    return not state or (line.is_idle if state == _IDLE else line.health.value == state)


def _rows(lines: Sequence[Line], now: datetime) -> list[Row]:
    """Return these hosts' rows, read anew; one that was removed meanwhile is left out."""
    hosts = Host.objects.in_bulk([line.host.pk for line in lines])
    there = [hosts[line.host.pk] for line in lines if line.host.pk in hosts]
    return [_row(state) for state in queries.host_states(there, now)]


def _columns(lines: Iterable[Line]) -> Mapping[int, HostColumns]:
    """Return what upper apps say of the lines' hosts, where the order or the file needs all of them."""
    return host_columns.of_hosts(list(Host.objects.in_bulk([line.host.pk for line in lines]).values()))


def _value(key: str, columns: Mapping[int, HostColumns], line: Line) -> Any:
    of_column = _OF_COLUMNS.get(key)
    return _KEYS[key](line) if of_column is None else of_column(columns.get(line.host.pk, _NOTHING))


def _row(state: HostState) -> Row:
    with_memory = [d for d in state.counted if d.values.get("memory_total_bytes") and "memory_used_bytes" in d.values]
    whole = sum(d.values["memory_total_bytes"] for d in with_memory)
    warm = [d for d in state.counted if "temperature_celsius" in d.values]
    return Row(
        state=state,
        devices=device_words(state),
        utilisation=_mean(state, "gpu_utilization_ratio"),
        tensor=_mean(state, "tensor_active_ratio"),
        memory=sum(d.values["memory_used_bytes"] for d in with_memory) / whole if whole else None,
        power=state.power_watts,
        hottest=max(warm, key=lambda d: d.values["temperature_celsius"], default=None),
        unknown=_why_unknown(state),
    )


def _mean(state: HostState, metric: str) -> float | None:
    values = [d.values[metric] for d in state.counted if metric in d.values]
    return sum(values) / len(values) if values else None


def _shorter(words: str) -> str:
    number, _, model = words.partition(" × ")
    found = _MODEL.search(model)
    return f"{number} × {found[1] if found else model}" if model else words


def device_words(state: HostState) -> str:
    """Return what a host's counted devices are, such as "8 × NVIDIA H100 80GB HBM3"."""
    return host_lines.words_of([d.device.model or str(d.device.get_kind_display()) for d in state.counted])


def _why_unknown(state: HostState) -> str:
    if state.health is Health.SILENT or not state.counted:
        return state.note or "no device found"
    return "a device does not give it"


def _csv_row(row: Row, own: HostColumns) -> tuple[object, ...]:
    host = row.state.host
    return (host.name, host.cluster, row.state.health.value, row.state.note, row.devices, row.utilisation, row.tensor, row.memory,
            row.power, row.temperature, host.last_seen_at, own.job, own.owner, own.deviation)  # fmt: skip
