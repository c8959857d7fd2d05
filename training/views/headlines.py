"""The two tiles of the fleet page that training tells: MFU of the running runs, and the work per joule of the greatest one."""

from collections.abc import Sequence
from datetime import datetime
from math import nan

import numpy as np
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from fleet import units
from fleet.web.shared_answer import shared
from telemetry.newest.headlines import Headline, arrow
from telemetry.store.read import column
from training.models import Run
from training.runs import mfu_history, summaries
from training.runs.summaries import Summary

_WINDOW_MS = 3_600_000
_DRAWN = 5  # runs; more of them take too long to read
_NONE = "no training run reports now"


@require_safe
@shared(seconds=2)
def headlines(request: HttpRequest) -> HttpResponse:
    """Show both over the runs of the fleet, or of a cluster."""
    now, cluster = timezone.now(), request.GET.get("cluster")
    running = Run.objects.filter(ends_at__gt=now).annotate(n_ranks=Count("ranks", filter=~Q(ranks__process="")))
    if cluster is not None:
        running = running.filter(host__cluster=cluster)
    runs = sorted(((run.n_ranks, run) for run in running), key=lambda each: (-each[0], each[1].pk))
    tiles = [_mfu(runs, mfu_history.growth(cluster, now)), _per_joule([run for _, run in runs], now)]
    return render(request, "training/_headlines.html", {"headlines": [each.within(cluster) for each in tiles]})


def _mfu(runs: Sequence[tuple[int, Run]], growth: float | None) -> Headline:
    """Return the mean over runs, each as many times as it has ranks: an hour of a device counts the same in each."""
    known = [(run.mfu_ratio, max(1, n_ranks)) for n_ranks, run in runs if run.mfu_ratio is not None]
    n = sum(ranks for _, ranks in known)
    grown = arrow(None if growth is None else growth * 100, "pp")
    of_runs = f"over {len(known):,} of {len(runs):,} {'run' if len(runs) == 1 else 'runs'}, by ranks"
    return Headline(
        label="Model FLOPs utilisation",
        value=sum(ratio * ranks for ratio, ranks in known) / n if n else None,
        unit="ratio",
        note=f"{grown} · {of_runs}" if grown else of_runs,
        href="/efficiency/",
        why_unknown=f"none of {len(runs):,} running runs tells its FLOPs" if runs else _NONE,
        series="s4",
        trend=_mfu_trend([(run, max(1, n_ranks)) for n_ranks, run in runs if run.mfu_ratio is not None]),
    )


def _mfu_trend(known: Sequence[tuple[Run, int]]) -> Sequence[float | None]:
    """Return the mean over the last hour, where few runs tell it and all of them for so long: MFU follows a run's throughput."""
    if not 0 < len(known) <= _DRAWN:
        return ()
    told = summaries.summaries([run for run, _ in known], _WINDOW_MS, timezone.now())
    lines, weights = [], []
    for run, n_ranks in known:
        found = told.get(run.pk)
        if found is None or found.window_ms < _WINDOW_MS or not found.throughput.value or found.mfu.value is None:
            return ()
        scale = found.mfu.value / found.throughput.value
        lines.append([nan if work is None else work * scale for work in found.trend])
        weights.append(n_ranks)
    return column(np.array(weights, np.float64) @ np.array(lines) / sum(weights))


def _per_joule(runs: Sequence[Run], now: datetime) -> Headline:
    """Return the work per joule of the run with most ranks: that of different work cannot be added."""
    found = summaries.summaries(runs[:1], _WINDOW_MS, now).get(runs[0].pk) if runs else None
    unit = found.per_joule.unit if found else "samples_per_joule"
    words = (
        [_grown(runs[0], found, now), f"{runs[0].name}, last {units.duration(found.window_ms / 1000)}"] if found else []
    )
    return Headline(
        label="Tokens per joule" if unit == "tokens_per_joule" else "Samples per joule",
        value=found.per_joule.value if found else None,
        unit=unit,
        note=" · ".join(filter(None, words)),
        href=f"/runs/{runs[0].pk}/" if runs else "/runs/",
        why_unknown=(found.per_joule.why if found else "its figures are being read") if runs else _NONE,
        series="s3",
    )


def _grown(run: Run, found: Summary, now: datetime) -> str:
    """Return how the run stands to itself a day ago; "" where it did not go then, or either is not known."""
    before = summaries.day_before(run, found.window_ms, now)
    if before is None or not before.value or not found.per_joule.value or before.unit != found.per_joule.unit:
        return ""
    return arrow(100 * (found.per_joule.value / before.value - 1), "%")
