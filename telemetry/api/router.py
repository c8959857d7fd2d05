"""Telemetry's part of the HTTP API: inventory, series, and what the fleet page shows. Called by fleet/api/api.py, by name.

Asks telemetry/newest/queries.py; parameters are read in questions.py, answers made in answers.py and series.py.
"""

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from ninja import Field, Query, Router, Schema

from fleet.api.lists import Listed, page_of
from fleet.models import Device, Host
from fleet.web.api_errors import ApiError
from telemetry.api import energy, events, export, notify
from telemetry.api import series as api_series
from telemetry.api.answers import DeviceDetail, DeviceItem, HostDetail, HostItem, MapAnswer, MapItem, Summary
from telemetry.api.questions import Inventory, Span, known_gauge, known_metric
from telemetry.api.series import DeviceSeries, FleetSeries
from telemetry.events import attention
from telemetry.newest import queries
from telemetry.series import trends

router = Router()
router.add_router("", events.router)
router.add_router("", notify.router)
router.add_router("", energy.router)


@router.get("/hosts", response=Listed[HostItem])
def hosts(request: HttpRequest, inventory: Query[Inventory]) -> Listed[HostItem]:
    """List hosts with their health and power."""
    state = queries.fleet_state(timezone.now())
    return page_of([host for host in state.hosts if inventory.takes_host(host)], inventory, HostItem.of)


@router.get("/hosts/{name}", response=HostDetail)
def host(request: HttpRequest, name: str) -> HostDetail:
    """Show one host with the newest readings of its devices."""
    found = Host.objects.prefetch_related("devices").filter(name=name).first()
    if found is None:
        raise ApiError(404, "not_found", f"there is no host named {name!r}", "name")
    return HostDetail.of(queries.host_state(found, timezone.now()))


@router.get("/devices", response=Listed[DeviceItem])
def devices(request: HttpRequest, inventory: Query[Inventory]) -> Listed[DeviceItem]:
    """List devices with their newest readings."""
    state = queries.fleet_state(timezone.now())
    found = [device for host in state.hosts for device in host.devices if inventory.takes_device(host, device)]
    return page_of(found, inventory, DeviceItem.of)


class SeriesQuestion(Span):
    metric: list[str] = Field(min_length=1, description="May be given more than once.")


@router.get("/devices/{path:uuid}/series", response=DeviceSeries)
def series(request: HttpRequest, uuid: str, asked: Query[SeriesQuestion]) -> HttpResponse:
    """Show metrics of a device over time."""
    metrics = [known_metric(name) for name in dict.fromkeys(asked.metric)]
    start_ms, end_ms = asked.milliseconds(timezone.now())
    found = _device(uuid)
    block = trends.device_series([found], [metric.name for metric in metrics], start_ms, end_ms, asked.points)
    return api_series.device_series(block, found.uuid, metrics)


# Before the device itself, whose path would take theirs too.
router.get("/devices/{path:uuid}/export")(export.of_device)
router.get("/hosts/{name}/export")(export.of_host)


@router.get("/devices/{path:uuid}", response=DeviceDetail)
def device(request: HttpRequest, uuid: str) -> DeviceDetail:
    """Show one device with its newest readings, its parts and who uses it."""
    found = _device(uuid)
    host = queries.host_state(found.host, timezone.now())
    return DeviceDetail.of(host.of(found), host)


class Cluster(Schema):
    cluster: str = ""


@router.get("/fleet/summary", response=Summary)
def summary(request: HttpRequest, asked: Query[Cluster]) -> Summary:
    """Show what the first screen's tiles and attention list show."""
    state = queries.fleet_state(timezone.now(), cluster=asked.cluster)
    return Summary.of(state, attention.of_state(state))


class MapQuestion(Cluster):
    metric: str


@router.get("/fleet/map", response=MapAnswer)
def fleet_map(request: HttpRequest, asked: Query[MapQuestion]) -> MapAnswer:
    """Show one metric's newest reading of every accelerator (of every CPU in a fleet without accelerators)."""
    metric = known_metric(asked.metric)
    counted = queries.fleet_state(timezone.now(), cluster=asked.cluster).counted
    return MapAnswer(metric=metric.name, items=[MapItem.of(state, metric) for state in counted], count=len(counted))


class FleetSeriesQuestion(Span, Cluster):
    metric: str
    group_by: str = Field(
        "", pattern=r"^(|cluster|model|host|label:.+)$", description="cluster, model, host or label:<key>"
    )


@router.get("/fleet/series", response=FleetSeries)
def fleet_series(request: HttpRequest, asked: Query[FleetSeriesQuestion]) -> HttpResponse:
    """Show one gauge over time across the devices of each group; without `group_by`, of the whole fleet."""
    metric = known_gauge(asked.metric)
    start_ms, end_ms = asked.milliseconds(timezone.now())
    trend = trends.trend(metric.name, start_ms, end_ms, asked.points, cluster=asked.cluster, group_by=asked.group_by)
    return api_series.fleet_series(trend, metric, start_ms, end_ms)


def _device(uuid: str) -> Device:
    try:
        return Device.objects.get(uuid=uuid)
    except Device.DoesNotExist as error:
        raise ApiError(404, "not_found", f"there is no device {uuid}", "uuid") from error
