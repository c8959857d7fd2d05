"""What needs a person: the open alerts as lines, gravest first. Pages and API ask here."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q

from fleet.inventory import clusters
from fleet.models import Event, Severity
from telemetry.health import Health, alerts, rules
from telemetry.newest.fleet_state import FleetState

_NEEDS_A_PERSON = {Severity.CRITICAL: Health.CRIT, Severity.WARNING: Health.WARN}


@dataclass(frozen=True, slots=True)
class Attention:
    """One line of the attention list. `is_shared`: it is about several hosts together, and of none of them alone.

    `url` leads to whom it is about, `evidence_url` to what was seen.
    """

    health: Health
    title: str
    detail: str
    since: datetime | None
    url: str
    acknowledged_by: str = ""
    is_shared: bool = False
    evidence_url: str = ""


def of_state(state: FleetState) -> list[Attention]:
    """Return what needs a person at these hosts: as `listed`."""
    if state.cluster == "":
        return listed(None)
    hosts = [host.host for host in state.hosts]
    return listed(Q(host__in=hosts) | _together(host__in=hosts) | Q(subject=f"cluster:{state.cluster}"))


def of_cluster(cluster: str) -> list[Attention]:
    """Return what needs a person in a cluster: as `listed`."""
    return listed(clusters.events_of(cluster))


def _together(**which: object) -> Q:
    """Return the alerts about several hosts together of which such a host is one."""
    return Q(pk__in=Event.hosts.through.objects.filter(**which).values("event"))


def listed(where: Q | None) -> list[Attention]:
    """Return what needs a person: the open alerts, gravest first, those that somebody has acknowledged last.

    Equal alerts of several devices of a host are one line. `where` None is the whole fleet.
    """
    raised = alerts.open_alerts().filter(severity__in=_NEEDS_A_PERSON).select_related("host", "device")
    if where is not None:
        raised = raised.filter(where)
    folded: dict[tuple[object, ...], list[Event]] = {}
    for event in raised.order_by("first_at", "device__index"):
        place = event.host_id if event.device_id else event.subject
        folded.setdefault((event.rule, event.severity, place, event.acknowledged_by), []).append(event)
    items = [_line(events) for events in folded.values()]
    return sorted(items, key=lambda item: (bool(item.acknowledged_by), item.health is not Health.CRIT))


def _line(events: Sequence[Event]) -> Attention:
    first, n = events[0], len(events)
    where, evidence, text = first.subject.replace(":", " ", 1), f"/events/?rule={first.rule}", first.text
    url = evidence
    if first.host is not None:
        evidence = f"{evidence}&host={first.host.name}"
        where, url = first.host.name, f"/hosts/{first.host.name}/"
    is_shared = first.subject.startswith("hosts:")
    if is_shared:
        url = f"/events/?event={first.pk}"
    if first.device is not None and n == 1:
        where, url = f"{where} {first.device.title}", f"/devices/{first.device.uuid}/"
    if n > 1:
        where, text = f"{where}, {n} devices", rules.words(first.rule)
    detail, health = first.detail.get("action", ""), _NEEDS_A_PERSON[Severity(first.severity)]
    return Attention(
        health, f"{where}: {text}", detail, first.first_at, url, first.acknowledged_by, is_shared, evidence
    )
