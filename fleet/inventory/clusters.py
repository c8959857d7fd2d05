"""Which clusters there are, which one an address asks for, and what happened in it. Called by the pages of all apps.

A host without a cluster is in that of the name "": nobody asks for a cluster where it is None.
"""

from collections.abc import Collection

from django.db.models import Q
from django.http import Http404, QueryDict

from fleet.models import Event, Host


def every() -> list[str]:
    """Return the clusters of the hosts, by name; one query."""
    return list(Host.objects.order_by("cluster").values_list("cluster", flat=True).distinct())


def of_query(query: QueryDict, there: Collection[str] | None = None) -> str | None:
    """Return the cluster that is asked for; `there` is every(), for who has it. Raises Http404 for one that there is not."""
    cluster = query.get("cluster")
    if cluster is None:
        return None
    is_there = Host.objects.filter(cluster=cluster).exists() if there is None else cluster in there
    if not is_there:
        raise Http404(f"There is no cluster {cluster!r}.")
    return cluster


def events_of(cluster: str) -> Q:
    """Return what finds the events of a cluster's hosts, those about several hosts together among them, and its own."""
    together = Event.hosts.through.objects.filter(host__cluster=cluster).values("event")
    return Q(host__cluster=cluster) | Q(pk__in=together) | Q(subject=f"cluster:{cluster}")
