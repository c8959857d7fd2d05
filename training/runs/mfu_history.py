"""The fleet's MFU minute by minute, for how it stands to the day before. Noted by the task `training.measure_runs`.

It is what the fleet page shows (views/headlines.py): the mean over the runs that tell it, each as many times as it has ranks.
"""

from collections import Counter, defaultdict
from datetime import datetime, timedelta

from django.db.models import Count, Q, Sum

from training.models import FleetMfu, Run

_MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
_KEPT_MS = DAY_MS + 2 * HOUR_MS
_LEAST_MINUTES = 45  # of an hour that must be known, as in telemetry/newest/day_before.py


def note(now: datetime) -> None:
    """Keep what the runs' newest figures come to in this minute, by cluster."""
    minute_ms = int(now.timestamp() * 1000) // _MINUTE_MS * _MINUTE_MS
    running = Run.objects.filter(ends_at__gt=now)
    weighted: defaultdict[str, float] = defaultdict(float)
    ranks = Counter[str]()
    told = running.annotate(n_ranks=Count("ranks", filter=~Q(ranks__process="")))
    for cluster, ratio, n_ranks in told.order_by().values_list("host__cluster", "mfu_ratio", "n_ranks"):
        if ratio is None:
            continue
        weighted[cluster or ""] += ratio * max(1, n_ranks)
        ranks[cluster or ""] += max(1, n_ranks)
    rows = [FleetMfu(minute_ms=minute_ms, cluster=name, weighted=weighted[name], ranks=n) for name, n in ranks.items()]
    FleetMfu.objects.bulk_create(
        rows, update_conflicts=True, unique_fields=["minute_ms", "cluster"], update_fields=["weighted", "ranks"]
    )
    FleetMfu.objects.filter(minute_ms__lt=minute_ms - _KEPT_MS).delete()


def growth(cluster: str | None, now: datetime) -> float | None:
    """Return by how much the last hour's MFU is above that of the same hour the day before; None where either is not known."""
    after, before = (_mean(cluster, now - ago) for ago in (timedelta(0), timedelta(days=1)))
    return None if after is None or before is None else after - before


def _mean(cluster: str | None, end: datetime) -> float | None:
    end_ms = int(end.timestamp() * 1000)
    rows = FleetMfu.objects.filter(minute_ms__gt=end_ms - HOUR_MS, minute_ms__lte=end_ms)
    rows = rows if cluster is None else rows.filter(cluster=cluster)
    found = rows.aggregate(n=Count("minute_ms", distinct=True), weighted=Sum("weighted"), ranks=Sum("ranks"))
    return found["weighted"] / found["ranks"] if found["n"] >= _LEAST_MINUTES and found["ranks"] else None
