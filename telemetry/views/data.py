"""What the pages' scripts fetch to fill their charts: arrays, as columnar JSON. For the host map see fleet_map.py."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.views.decorators.http import require_safe

from fleet.models import Device, Host
from fleet.pages import sparkline, timerange
from fleet.pages.timerange import TimeRange
from fleet.web.csv_answer import asked_table
from fleet.web.shared_answer import shared
from telemetry import catalog
from telemetry.charts import chart_groups, traces
from telemetry.events import event_marks
from telemetry.newest import queries
from telemetry.series import trends
from telemetry.series.trends import Trend
from telemetry.store.read import Bucketed, column
from telemetry.store.samples import Floats
from telemetry.views.chart_files import columns_file, devices_file
from telemetry.views.fleet import power_groups

POINTS, _LEAST_POINTS, _SPARK_POINTS = 241, 10, 121
_ACROSS = ("mean", "p10", "p50", "p90")


@require_safe
@shared(seconds=2)
def fleet_arrays(request: HttpRequest) -> HttpResponse:
    """Utilisation (mean, p10, median, p90) and power (sum by cluster) of the counted devices; its cost grows not with them."""
    window = timerange.of_query(request.GET, timezone.now())
    cluster = request.GET.get("cluster")
    groups = power_groups(window.since_ms) if cluster is None else [cluster]
    power_by = "" if cluster is None and groups == [""] else "cluster"
    used, power = (
        trends.within(cluster, metric, window.start_ms, window.end_ms, POINTS, group_by)
        for metric, group_by in (("gpu_utilization_ratio", ""), ("power_draw_watts", power_by))
    )
    no_use, no_power = (np.full(len(trend.times_ms), np.nan) for trend in (used, power))
    use = {part: column(getattr(used, part).get("", no_use)) for part in _ACROSS}
    totals = [column(power.total.get(group, no_power)) for group in groups]
    watts = {_watts_of(group): total for group, total in zip(groups, totals, strict=True)}
    ratios = {f"gpu_utilization_ratio_{part}": each for part, each in use.items()}
    files = {
        "utilisation": lambda: columns_file("utilisation", used.times_ms, ratios),
        "power": lambda: columns_file("power", power.times_ms, watts),
    }
    if (file := asked_table(request.GET, files)) is not None:
        return file
    means, sums = traces.across_devices(used.times_ms, *use.values()), traces.stacked(power.times_ms, totals)
    charts = {
        "fig-utilisation": {"traces": means, **traces.gaps(used.times_ms, [use["mean"]], _journey_ms(used))},
        "fig-power": {"traces": sums, **traces.gaps(power.times_ms, totals, _journey_ms(power))},
    }
    sparks = {
        "reporting": _spark(used.n.get("", no_use), 0),
        "utilisation": _spark(used.mean.get("", no_use), 0, 1),
        "power": _spark(traces.sums(totals), 0),
    }
    return _answer(window, used.times_ms, charts, sparks)


def _watts_of(group: str) -> str:
    return f"{group}_watts" if group else "power_draw_watts"


def _journey_ms(trend: Trend) -> int:
    return traces.GROUP_JOURNEY_MS if trend.step_seconds >= 60 else traces.JOURNEY_MS


@require_safe
def host_arrays(request: HttpRequest, name: str) -> HttpResponse:
    """Each `metric` for the host's counted devices: the peers and the chosen `device`, or the mean of all."""
    host = get_object_or_404(Host.objects.prefetch_related("devices"), name=name)
    now = timezone.now()
    devices = [d.device for d in queries.host_state(host, now).counted]
    window = timerange.of_query(request.GET, now)
    metrics, chosen = _metrics(request), request.GET.get("device", "")
    throttled = [device for device in devices if device.uuid == chosen or len(devices) == 1]
    asked = [*metrics, event_marks.REASONS] if throttled else metrics
    block = trends.device_series(devices, asked, window.start_ms, window.end_ms, _points(request))
    if request.GET.get("format") == "csv":
        return devices_file(name, block, devices, metrics)
    charts = {f"fig-{metric}": _chart(block, [d.uuid for d in devices], metric, chosen) for metric in metrics}
    sparks = {device.uuid: _spark(block.of(device.uuid, "gpu_utilization_ratio").mean, 0, 1) for device in devices}
    marks = [mark for device in throttled for mark in event_marks.throttling(block, device, list(charts))]
    return _answer(window, block.times_ms, charts, sparks, marks)


@require_safe
def device_arrays(request: HttpRequest, uuid: str) -> HttpResponse:
    """Each `chart` of one device, of what it has of each the `metric`s that are asked for."""
    device = get_object_or_404(Device.objects.select_related("host"), uuid=uuid)
    window = timerange.of_query(request.GET, timezone.now())
    metrics, keys = _metrics(request), dict.fromkeys(request.GET.getlist("chart"))
    if unknown := [key for key in keys if key not in chart_groups.BY_KEY]:
        raise BadRequest(f"chart: {unknown[0]} is not known")
    asked = [*metrics, event_marks.REASONS]
    block = trends.device_series([device], asked, window.start_ms, window.end_ms, _points(request))
    if request.GET.get("format") == "csv":
        place = device.uuid if device.index is None else device.index
        return devices_file(f"{device.host.name}-{place}", block, [device], metrics)
    groups = [chart_groups.BY_KEY[key] for key in keys]
    charts = {g.id: chart_groups.arrays(block, device.uuid, g.offered(metrics)) for g in groups if g.offered(metrics)}
    return _answer(window, block.times_ms, charts, {}, event_marks.throttling(block, device, list(charts)))


@require_safe
def marks(request: HttpRequest) -> HttpResponse:
    """What happened to a host's devices, or to one `device`, over the window: as marks of its charts (static/js/marks.js)."""
    host = get_object_or_404(Host, name=request.GET.get("host", ""))
    window = timerange.of_query(request.GET, timezone.now())
    device = get_object_or_404(Device, uuid=request.GET["device"], host=host) if "device" in request.GET else None
    found = event_marks.of_events(host, device, window.start_ms, window.end_ms)
    return HttpResponse(orjson.dumps({"marks": found}), content_type="application/json")


def _points(request: HttpRequest) -> int:
    """Return how many buckets are asked for. Raises BadRequest."""
    asked = request.GET.get("points", str(POINTS))
    if not (asked.isascii() and asked.isdigit() and _LEAST_POINTS <= int(asked) <= trends.MAX_POINTS):
        raise BadRequest(f"points: expected a number from {_LEAST_POINTS} to {trends.MAX_POINTS}")
    return int(asked)


def _metrics(request: HttpRequest) -> list[str]:
    metrics = list(dict.fromkeys(request.GET.getlist("metric")))
    if unknown := [metric for metric in metrics if metric not in catalog.BY_NAME]:
        raise BadRequest(f"metric: {unknown[0]} is not known")
    return metrics


def _answer(
    window: TimeRange, times_ms: list[int], charts: dict[str, Any], sparks: dict[str, Any], told: Sequence[Any] = ()
) -> HttpResponse:  # fmt: skip
    span = [window.start_ms, window.end_ms]
    answer = {"range": span, "x": _grid(times_ms), "charts": charts, "sparks": sparks, "marks": told}
    return HttpResponse(orjson.dumps(answer), content_type="application/json")


def _grid(times_ms: list[int]) -> dict[str, int] | list[int]:
    """Return the moments as a grid: they are evenly spaced."""
    if len(times_ms) < 2:
        return times_ms
    return {"first": times_ms[0], "step": times_ms[1] - times_ms[0], "n": len(times_ms)}


def _chart(block: Bucketed, uuids: Sequence[str], metric: str, chosen: str) -> dict[str, Any]:
    columns = {uuid: block.of(uuid, metric).mean for uuid in uuids}
    means = list(columns.values())
    lines: Sequence[Mapping[str, Any]]
    if len(uuids) == 1:
        only = block.of(uuids[0], metric)
        ends = (column(each) for each in (only.mean, only.minimum, only.maximum))
        lines = traces.mean_with_band(block.times_ms, *ends)
    else:
        front = columns.pop(chosen, None)
        lines = traces.peers(list(columns.values()), traces.means(means) if front is None else front)
    return {"traces": lines, **traces.gaps(block.times_ms, means)}


def _spark(values: Floats, low: float, high: float | None = None) -> dict[str, str]:
    """Return the paths over as many points as it has room for, each the mean of what is known there."""
    width = -(-len(values) // _SPARK_POINTS) or 1
    table = np.full(-(-len(values) // width) * width, np.nan)
    table[: len(values)] = values
    line, area = sparkline.paths(column(traces.means(list(table.reshape(-1, width).T))), low, high)
    return {"line": line, "area": area}
