"""By what the fleet's power and energy can be told apart: cluster, model, and the labels that its hosts have. For the power page.

A chart stacks only so many groups; the smallest share one.
"""

from collections import Counter
from dataclasses import dataclass

from django.db.models import Count

from fleet.models import Host
from telemetry.accounts.members import key_of_host
from telemetry.series import counted

MOST = 6
OTHERS = "others"
_LABELS = 3  # of which so many are offered, the most common ones


@dataclass(frozen=True, slots=True)
class By:
    """`key` is what accounts and trends take as `group_by`; `noun` names one group."""

    key: str
    words: str

    @property
    def noun(self) -> str:
        return self.words.lower()


def offered(cluster: str | None = None) -> list[By]:
    """Return by what can be grouped, the labels of the fleet's hosts, or of a cluster's, last. One query."""
    labels: Counter[str] = Counter()
    hosts = Host.objects.exclude(labels={}).order_by()
    hosts = hosts if cluster is None else hosts.filter(cluster=cluster)
    for found in hosts.values_list("labels", flat=True):
        labels.update(str(key) for key in found)
    named = [By(f"label:{key}", key[:1].upper() + key[1:]) for key, _ in labels.most_common(_LABELS)]
    return [By("cluster", "Cluster"), By("model", "Model"), *named]


def members(by: str, cluster: str | None, since_ms: int) -> list[str]:
    """Return the groups of the counted devices of the fleet, or of a cluster, those with most devices first.

    Last those that devices have left since, and nobody is in any more: a chart of that time has a part of theirs.
    """
    class_ = counted.class_of(cluster, since_ms)
    found = counted.devices(cluster, class_).order_by()
    sizes: Counter[str] = Counter()
    if by.startswith("label:"):
        key = by.removeprefix("label:")
        for labels, n in found.values_list("host__labels").annotate(n=Count("pk")):
            sizes[str(labels.get(key, ""))] += n
    else:
        field = {"cluster": "host__cluster", "model": "model", "host": "host__name"}[by]
        sizes.update(dict(found.values_list(field).annotate(n=Count("pk"))))
    for each in counted.left(cluster, since_ms, class_):
        sizes.setdefault(each.device.model if by == "model" else key_of_host(each.host, by), 0)
    return [name for name, _ in sorted(sizes.items(), key=lambda item: (-item[1], item[0]))]


def stacked(names: list[str]) -> list[str]:
    """Return the groups that a chart stacks, OTHERS for those that are too many."""
    return names if len(names) <= MOST else [*names[: MOST - 1], OTHERS]


def named(name: str) -> str:
    return name or "none"
