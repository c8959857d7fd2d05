"""The table of hosts: the host map's equal for reading, sorting and copying. Answers as page, as its table, and as CSV.

Filter, order and page stand in the address and are applied here, so that a fleet of a thousand hosts is as quick as one of ten.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
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
from telemetry import host_columns, queries
from telemetry.health import Health
from telemetry.health.judgement import GRAVITY
from telemetry.host_columns import HostColumns
from telemetry.queries import DeviceState, HostState

PAGE_SIZE = 100
_MODEL = re.compile(r"\b([A-Z]{1,3}\d{2,4}[A-Z]?)\b")
_IDLE, _IDLE_BELOW = "idle", 0.05
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

    @property
    def is_idle(self) -> bool:
        return self.utilisation is not None and self.utilisation < _IDLE_BELOW

    def is_in(self, state: str) -> bool:
        return not state or (self.is_idle if state == _IDLE else self.state.health.value == state)

    def holds(self, words: list[str]) -> bool:
        host = self.state.host
        labels = " ".join(f"{key}={value}" for key, value in host.labels.items())
        text = f"{host.name} {host.cluster} {self.devices} {labels} {self.state.note}".lower()
        return all(word in text for word in words)


_KEYS: Mapping[str, Callable[[Row], Any]] = {
    "host": lambda row: row.state.host.name,
    "state": lambda row: GRAVITY[row.state.health],
    "cluster": lambda row: row.state.host.cluster,
    "devices": lambda row: row.devices,
    "utilisation": lambda row: row.utilisation,
    "tensor": lambda row: row.tensor,
    "memory": lambda row: row.memory,
    "power": lambda row: row.power,
    "temperature": lambda row: row.temperature,
    "seen": lambda row: row.state.host.last_seen_at,
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
    every = [_row(host) for host in queries.fleet_state(timezone.now()).hosts]
    named = [row for row in every if row.holds(words)]
    shown = [row for row in named if row.is_in(state)]
    is_csv = request.GET.get("format") == "csv"
    columns = _columns(shown) if is_csv or order.key in _OF_COLUMNS else {}
    found = order.arranged(shown, partial(_value, order.key, columns))
    if is_csv:
        return csv_answer("hosts", _CSV, (_csv_row(row, columns.get(row.state.host.pk, _NOTHING)) for row in found))
    page = Paginator(found, PAGE_SIZE).get_page(request.GET.get("page"))
    context = {
        "rows": list(page),
        "columns": columns or _columns(page),
        "page": page,
        "sorting": order,
        "path": request.get_full_path(),
        "is_long": len(every) > PAGE_SIZE,
    }
    if request.htmx:  # type: ignore[attr-defined]  # set by django-htmx's middleware
        return render(request, "telemetry/_hosts.html", context)
    chips = [(key, label, sum(row.is_in(key) for row in named)) for key, label in _SHAPES.items()]
    still = {
        "chips": chips,
        "n_named": len(named),
        "n_hosts": len(every),
        "q": request.GET.get("q", ""),
        "state": state,
    }
    return render(request, "telemetry/hosts.html", context | still)


def _columns(rows: Iterable[Row]) -> Mapping[int, HostColumns]:
    """Return what upper apps say of the rows' hosts; of those of a page alone, unless the order needs all."""
    return host_columns.of_hosts([row.state.host for row in rows])


def _value(key: str, columns: Mapping[int, HostColumns], row: Row) -> Any:
    of_column = _OF_COLUMNS.get(key)
    return _KEYS[key](row) if of_column is None else of_column(columns.get(row.state.host.pk, _NOTHING))


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
    models = [d.device.model or d.device.get_kind_display() for d in state.counted]
    return ", ".join(f"{models.count(model)} × {model}" for model in dict.fromkeys(models))


def _why_unknown(state: HostState) -> str:
    if state.health is Health.SILENT or not state.counted:
        return state.note or "no device found"
    return "a device does not give it"


def _csv_row(row: Row, own: HostColumns) -> tuple[object, ...]:
    host = row.state.host
    return (host.name, host.cluster, row.state.health.value, row.state.note, row.devices, row.utilisation, row.tensor, row.memory,
            row.power, row.temperature, host.last_seen_at, own.job, own.owner, own.deviation)  # fmt: skip
