"""The table of hosts: the host map's equal for reading, sorting and copying. Answers as page, as its table, and as CSV.

Filter, order and page stand in the address and are applied here, so that a fleet of a thousand hosts is as quick as one of ten.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from django.core.exceptions import BadRequest
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from fleet.models import Host
from fleet.pages import sorting
from fleet.web.csv_answer import csv_answer
from telemetry.health import Health
from telemetry.health.judgement import GRAVITY
from telemetry.newest import glance, host_columns, host_lines
from telemetry.newest.fleet_state import HostState
from telemetry.newest.glance_parts import words_of
from telemetry.newest.host_columns import HostColumns
from telemetry.newest.host_lines import Line
from telemetry.views.fleet_map import part_of

PAGE_SIZE = 50
_MODEL = re.compile(r"\b([A-Z]{1,3}\d{2,4}[A-Z]?)\b")
_IDLE = "idle"
_SHAPES = {Health.WARN.value: "Warning", Health.CRIT.value: "Critical", Health.SILENT.value: "Silent", _IDLE: "Idle"}


@dataclass(frozen=True, slots=True)
class Row:
    """A host's line with what upper apps say of it."""

    line: Line
    own: HostColumns

    @property
    def short(self) -> str:
        """What the devices are, by the model's own word, such as "8 × H100": the column is narrow, its title has the whole."""
        return _shorter(self.line.devices)


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
    whole = glance.recent(timezone.now())
    every = host_lines.lines(part_of(whole, request))
    named = _named(every, words) if words else every
    shown = [line for line in named if _is_in(line, state)] if state else named
    is_csv = request.GET.get("format") == "csv"
    with_baselines = is_csv or order.key == "baseline"
    columns = _columns(shown, with_baselines=with_baselines) if is_csv or order.key in _OF_COLUMNS else {}
    found = order.arranged(shown, partial(_value, order.key, columns))
    if is_csv:
        return csv_answer("hosts", _CSV, (_csv_row(line, columns.get(line.host.pk, _NOTHING)) for line in found))
    page = Paginator(found, PAGE_SIZE).get_page(request.GET.get("page"))
    columns = columns if with_baselines else _columns(page, with_baselines=True)
    context = {
        "rows": [Row(line, columns.get(line.host.pk, _NOTHING)) for line in page],
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
        "clusters": whole.clusters,
        "n_named": len(named),
        "n_hosts": len(every),
        "q": request.GET.get("q", ""),
        "state": state,
    }
    return render(request, "telemetry/hosts.html", context | still)


def _named(lines: Sequence[Line], words: Sequence[str]) -> list[Line]:
    labels = dict(Host.objects.exclude(labels={}).values_list("pk", "labels"))
    return [line for line in lines if line.holds(words, labels.get(line.host.pk, {}))]


def _is_in(line: Line, state: str) -> bool:
    return line.is_idle if state == _IDLE else line.health.value == state


def _columns(lines: Iterable[Line], *, with_baselines: bool) -> Mapping[int, HostColumns]:
    return host_columns.of_hosts([line.host.pk for line in lines], with_baselines=with_baselines)


def _value(key: str, columns: Mapping[int, HostColumns], line: Line) -> Any:
    of_column = _OF_COLUMNS.get(key)
    return _KEYS[key](line) if of_column is None else of_column(columns.get(line.host.pk, _NOTHING))


@lru_cache(maxsize=256)
def _shorter(words: str) -> str:
    return ", ".join(_short(part) for part in words.split(", "))


def _short(part: str) -> str:
    number, _, model = part.partition(" × ")
    found = _MODEL.search(model)
    return f"{number} × {found[1] if found else model}" if model else part


def device_words(state: HostState) -> str:
    """Return what a host's counted devices are, such as "8 × NVIDIA H100 80GB HBM3"."""
    return words_of([d.device.model or str(d.device.get_kind_display()) for d in state.counted])


def _csv_row(line: Line, own: HostColumns) -> tuple[object, ...]:
    return (line.host.name, line.host.cluster, line.health.value, line.note, line.devices, line.utilisation, line.tensor,
            line.memory, line.power, line.temperature, line.seen, own.job, own.owner, own.deviation)  # fmt: skip
