"""GET /api/v1/prometheus/sd: Prometheus' http_sd: one target per host agent, each scraped through this server.

Called by fleet/api/api.py, by name. Source: Prometheus, "Writing HTTP Service Discovery".
"""

import re
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest
from ninja import Router, Schema

from fleet.models import Host, Origin

router = Router()

_NO_LABEL_CHARACTER = re.compile(r"[^A-Za-z0-9_]")


class TargetGroup(Schema):
    """One host: this server's address, and the labels that make a scrape of it one of that host."""

    targets: list[str]
    labels: dict[str, str]


@router.get("/prometheus/sd", response=list[TargetGroup])
def prometheus_sd(request: HttpRequest) -> list[TargetGroup]:
    """List every host whose agent reports, as targets for Prometheus' `http_sd_configs`."""
    hosts = Host.objects.exclude(origin=Origin.IMPORTED).order_by("name").only("name", "cluster", "labels", "origin")
    server = urlsplit(settings.STEPWATT_PUBLIC_URL or f"{request.scheme}://{request.get_host()}")
    scrape = {"__scheme__": server.scheme, "__metrics_path__": f"{server.path}/metrics"}
    return [TargetGroup(targets=[server.netloc], labels=scrape | _labels(host)) for host in hosts]


def _labels(host: Host) -> dict[str, str]:
    """Host and cluster are meta labels: series have these labels, and Prometheus would rename theirs to `exported_host`."""
    labels = {_NO_LABEL_CHARACTER.sub("_", str(key)): str(value) for key, value in host.labels.items()}
    return {
        "__param_host": host.name,
        "instance": host.name,
        "__meta_stepwatt_host": host.name,
        "__meta_stepwatt_cluster": host.cluster,
        "__meta_stepwatt_origin": host.origin,
        **{f"__meta_stepwatt_label_{key}": value for key, value in labels.items()},
    }
