"""The gravest open alert of each device and each host, acknowledged or not: what their shown health follows.

One that is only for information says nothing of health. Asked by queries.py and glance.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from django.db.models import QuerySet

from fleet.models import Event, Host, Severity
from telemetry.health import alerts
from telemetry.health.judgement import GRAVITY, Finding, Health

_HEALTH = {Severity.CRITICAL.value: Health.CRIT, Severity.WARNING.value: Health.WARN}
_MANY_HOSTS = 100  # their ids make a longer question than all open alerts an answer


@dataclass(frozen=True, slots=True)
class Gravest:
    """By the ids of devices, and of hosts for the alerts that speak of none of their devices; `hosts` are those of either."""

    of_devices: dict[int, Finding] = field(default_factory=dict)
    of_hosts: dict[int, Finding] = field(default_factory=dict)
    hosts: set[int] = field(default_factory=set)


def of_hosts(hosts: Sequence[Host]) -> Gravest:
    """Return what stands open at these hosts, of equal alerts the oldest. One query."""
    rows = _rows()
    return _gravest(rows.filter(host__in=hosts) if len(hosts) < _MANY_HOSTS else rows)


def of_all() -> Gravest:
    """Return what stands open at any host: as `of_hosts`."""
    return _gravest(_rows())


def _gravest(rows: QuerySet[Event]) -> Gravest:
    found = Gravest()
    for severity, text, detail, host_id, device_id in rows.values_list(
        "severity", "text", "detail", "host_id", "device_id"
    ):
        found.hosts.add(host_id)
        finding = Finding(_HEALTH[severity], text, detail.get("action", ""))
        place, key = (found.of_devices, device_id) if device_id else (found.of_hosts, host_id)
        place[key] = graver(place.get(key), finding)
    return found


def graver(one: Finding | None, other: Finding) -> Finding:
    """Return the graver of two, the first where they are equal."""
    return other if one is None or GRAVITY[other.health] > GRAVITY[one.health] else one


def _rows() -> QuerySet[Event]:
    return alerts.open_alerts().filter(severity__in=_HEALTH, host__isnull=False).order_by("first_at", "pk")
