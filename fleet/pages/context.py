"""What base.html shows on every page: time ranges, agents reporting, and whether a fleet holds data that is not live.

Named in the settings as a context processor. Two queries, and only where a template asks; `may_manage` is for admins' buttons,
`scope` for links to what speaks of the same `cluster` (`and_scope` behind a query), which `passes_cluster` where the page itself
speaks of all.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlencode

from django.conf import settings
from django.db.models import Count, Q
from django.http import HttpRequest
from django.utils import timezone
from django.utils.functional import SimpleLazyObject

from fleet.access.auth import has_role
from fleet.inventory import clusters
from fleet.models import Event, Host, Origin, Role, Severity
from fleet.pages import timerange

_SCOPED = {"fleet", "hosts", "runs", "reference", "power", "efficiency", "events", "search"}  # may speak of one cluster
_OF_ALL = {"/reference/schedules/"}  # pages within these that speak of all, and lead back to that one


@dataclass(frozen=True, slots=True)
class Shell:
    """`agents` are the hosts that should report; `simulated` and `imported` count the hosts that the banner names.

    `critical` counts the critical alerts that nobody has acknowledged. Agents and alerts are those of the page's cluster.
    """

    section: str
    ranges: dict[str, str]
    range: str
    agents: int
    agents_reporting: int
    simulated: int
    imported: int
    critical: int


def shell(request: HttpRequest) -> dict[str, object]:
    cluster = _cluster(request)
    scope = "" if cluster is None else urlencode({"cluster": cluster})
    return {
        "shell": SimpleLazyObject(lambda: _shell(request, cluster, timezone.now())),
        "may_manage": SimpleLazyObject(lambda: has_role(request, Role.ADMIN)),
        "cluster": request.GET.get("cluster"),
        "scope": scope and f"?{scope}",
        "and_scope": scope and f"&{scope}",
        "passes_cluster": bool(scope) and request.path in _OF_ALL,
    }


def _cluster(request: HttpRequest) -> str | None:
    """Return the cluster that links lead on to; None where the page speaks of the whole fleet."""
    return request.GET.get("cluster") if _section(request.path) in _SCOPED else None


def _shell(request: HttpRequest, cluster: str | None, now: datetime) -> Shell:
    since = now - timedelta(seconds=settings.STEPWATT_SILENT_SECONDS)
    has_joined = ~Q(public_key=b"") | Q(heard_at__isnull=False)  # one that was only added does not report yet
    live = ~Q(origin=Origin.IMPORTED) & has_joined
    here, events = (Q(), Q()) if cluster is None else (Q(cluster=cluster), clusters.events_of(cluster))
    counts = Host.objects.aggregate(
        agents=Count("pk", filter=live & here),
        reporting=Count("pk", filter=live & here & Q(heard_at__gte=since)),
        simulated=Count("pk", filter=Q(origin=Origin.SIMULATED)),
        imported=Count("pk", filter=Q(origin=Origin.IMPORTED)),
    )
    section = _section(request.path)
    return Shell(
        section=section,
        ranges={key: f"{key[:-1]} {key[-1]}" for key in timerange.RANGES},
        range=request.GET.get("range", timerange.OF_SECTIONS.get(section, timerange.DEFAULT)),
        agents=counts["agents"],
        agents_reporting=counts["reporting"],
        simulated=counts["simulated"],
        imported=counts["imported"],
        critical=Event.objects.filter(
            events, rule__gt="", resolved_at=None, acknowledged_at=None, severity=Severity.CRITICAL
        ).count(),
    )


def _section(path: str) -> str:
    """Return the navigation item that a path belongs to; devices stand under their hosts."""
    head = path.strip("/").partition("/")[0]
    return {"": "fleet", "devices": "hosts"}.get(head, head)
