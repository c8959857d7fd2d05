"""The host map's data as columns, the same devices as a table, and the way from a cell to its device."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import orjson
from django.core.exceptions import BadRequest
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import cache_control
from django.views.decorators.http import conditional_page, require_safe

from fleet.models import Device, Origin
from fleet.web.csv_answer import csv_answer
from fleet.web.shared_answer import shared
from telemetry import catalog
from telemetry.health import Health
from telemetry.newest import glance
from telemetry.newest.glance import Glance
from telemetry.newest.glance_parts import HEALTHS, METRICS
from telemetry.store.samples import Floats

SHARE = "memory_used_ratio"
_STEPS = {
    "gpu_utilization_ratio": 1000, "tensor_active_ratio": 1000, SHARE: 1000, "power_draw_watts": 1, "temperature_celsius": 10,
}  # fmt: skip
PAGE = 200
_CSV = ("host", "device", "cluster", "model", "state", "note")
_SORTS = ("health", *_STEPS)


class Page(NamedTuple):
    """A part of the table: `number` of `n`, and where its rows stand among all `n_rows`."""

    number: int
    n: int
    first: int
    last: int
    n_rows: int


@dataclass(frozen=True, slots=True)
class Row:
    host: str
    cluster: str
    pk: int
    title: str
    model: str
    health: str
    is_recorded: bool
    note: str
    values: list[tuple[float | None, str]]


@require_safe
@cache_control(private=True, no_cache=True)
@conditional_page
@shared(seconds=1)
def fleet_map(request: HttpRequest) -> HttpResponse:
    """Every counted device of each host once, by cluster and host. Columns over devices; null where absent.

    Values are whole steps, so many to a unit as `steps` says; repeated words stand once. One who shows the ETag that he has
    gets no body where nothing has changed.
    """
    found = of_request(request)
    titles, title_of = _coded(found.titles)
    models, model_of = _coded([identity.model for identity in found.identities])
    notes, note_of = _coded(list(found.notes.values()))
    drawn = found.values[found.counted][:, [METRICS.index("power_draw_watts"), METRICS.index("power_limit_watts")]]
    answer = {
        "hosts": {
            "name": [host.name for host in found.hosts],
            "cluster": [host.cluster for host in found.hosts],
            "devices": [len(part.identities) for part in found.parts],
        },
        "devices": {
            "id": [identity.pk for identity in found.identities],
            "title": title_of,
            "model": model_of,
            "health": found.health.tolist(),
            "noted": [list(found.notes), note_of],
        },
        "words": {"title": titles, "model": models, "note": notes, "health": [health.value for health in HEALTHS]},
        "steps": _STEPS,
        "values": {metric: _whole_steps(values_of(found, metric), steps) for metric, steps in _STEPS.items()},
        "power_scale_watts": None if np.isnan(drawn).all() else float(np.nanmax(drawn)),
    }
    return HttpResponse(orjson.dumps(answer), content_type="application/json")


def of_request(request: HttpRequest) -> Glance:
    """Return the newest state of the fleet, or of the cluster that is asked for."""
    return part_of(glance.recent(timezone.now()), request)


def part_of(whole: Glance, request: HttpRequest) -> Glance:
    """Return the part of the fleet that the address asks for. Raises Http404 for a cluster that there is not."""
    cluster = request.GET.get("cluster")
    if cluster is None:
        return whole
    if cluster not in {host.cluster for host in whole.hosts}:
        raise Http404(f"There is no cluster {cluster!r}.")
    return whole.of_cluster(cluster)


def values_of(found: Glance, metric: str) -> Floats:
    """Return a column over all devices; the share of memory is used / installed."""
    if metric != SHARE:
        values: Floats = found.values[:, METRICS.index(metric)]
        return values
    used, whole = (found.values[:, METRICS.index(name)] for name in ("memory_used_bytes", "memory_total_bytes"))
    shares: Floats = np.divide(used, whole, out=np.full(len(used), np.nan), where=whole > 0)
    return shares


def _whole_steps(values: Floats, steps: int) -> list[int | None]:
    known = ~np.isnan(values)
    whole: list[int | None] = np.rint(np.where(known, values, 0) * steps).astype(np.int64).tolist()
    for at in np.flatnonzero(~known).tolist():
        whole[at] = None
    return whole


def _coded(words: Sequence[str]) -> tuple[list[str], list[int]]:
    """Return the different words, and for each of all its position among them."""
    places: dict[str, int] = {}
    codes = [places.setdefault(word, len(places)) for word in words]
    return list(places), codes


@require_safe
def devices(request: HttpRequest) -> HttpResponse:
    """Show the map's devices as a table, the gravest first or by a metric; what a page costs does not grow with the fleet."""
    whole = glance.recent(timezone.now())
    found = part_of(whole, request)
    sort = request.GET.get("sort", "-health")
    key = sort.removeprefix("-")
    if key not in _SORTS:
        raise BadRequest(f"sort: expected one of {', '.join(_SORTS)}, with - before it for the greatest first")
    values = {metric: values_of(found, metric) for metric in _STEPS}
    order = _order(found.health.astype(np.float64) if key == "health" else values[key], sort.startswith("-"))
    if request.GET.get("format") == "csv":
        return csv_answer("devices", (*_CSV, *_STEPS), (_csv_row(_row(found, values, at)) for at in order.tolist()))
    page = _page(request, len(order))
    rows = [_row(found, values, at) for at in order[page.first : page.last].tolist()]
    columns = [(metric, catalog.BY_NAME[metric].label) for metric in _STEPS]
    context = {"rows": rows, "page": page, "sort": sort, "key": key, "columns": columns, "noun": _noun(found)}
    context["clusters"] = whole.clusters
    return render(request, "telemetry/devices.html", context)


def _noun(found: Glance) -> str:
    """Return what all rows together are: the fleet's noun only where it speaks of each of them."""
    return found.noun if found.counted.all() else "devices"


def _csv_row(row: Row) -> tuple[object, ...]:
    return (row.host, row.title, row.cluster, row.model, row.health, row.note, *(value for value, _ in row.values))


def _order(values: Floats, is_descending: bool) -> Any:
    """Return positions by value; those without one stand last in either direction, equal ones by cluster and host."""
    return np.argsort(np.where(np.isnan(values), np.inf, -values if is_descending else values), kind="stable")


def _page(request: HttpRequest, n_rows: int) -> Page:
    n = max(1, -(-n_rows // PAGE))
    asked = request.GET.get("page", "1")
    if not (asked.isascii() and asked.isdigit() and 1 <= int(asked) <= n):
        raise BadRequest(f"page: expected a number from 1 to {n}")
    first = (int(asked) - 1) * PAGE
    return Page(int(asked), n, first, min(n_rows, first + PAGE), n_rows)


def _row(found: Glance, columns: Mapping[str, Floats], at: int) -> Row:
    host, identity = found.hosts[found.host[at]], found.identities[at]
    numbers = ((float(values[at]), catalog.BY_NAME[metric].unit) for metric, values in columns.items())
    return Row(
        host=host.name,
        cluster=host.cluster,
        pk=identity.pk,
        title=found.titles[at],
        model=identity.model,
        health=HEALTHS[found.health[at]].value,
        is_recorded=host.origin == Origin.IMPORTED and HEALTHS[found.health[at]] is Health.OK,
        note=found.notes.get(at, ""),
        values=[(None if np.isnan(value) else value, unit) for value, unit in numbers],
    )


@require_safe
def device_of_cell(request: HttpRequest, pk: int) -> HttpResponse:
    """Lead from a cell to its device's page as it was asked for: the map tells ids, a tenth of what its UUIDs would take."""
    uuid = Device.objects.filter(pk=pk).values_list("uuid", flat=True).first()
    if uuid is None:
        raise Http404("This device is not there any more.")
    address, asked = reverse("device", args=[uuid]), request.GET.urlencode()
    return redirect(f"{address}?{asked}" if asked else address)
