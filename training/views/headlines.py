"""The two tiles of the fleet page that training tells: MFU of the running runs, and the work per joule of the greatest one."""

from collections.abc import Sequence
from math import nan

import numpy as np
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from telemetry.headlines import Headline
from telemetry.store.read import column
from training.models import Run
from training.runs import summaries

_WINDOW_MS = 3_600_000
_DRAWN = 5  # runs; more of them take too long to read
_NONE = "no training run reports now"


@require_safe
def headlines(request: HttpRequest) -> HttpResponse:
    """Show both over the runs of the fleet, or of a cluster."""
    running = Run.objects.filter(ends_at__gt=timezone.now()).annotate(
        n_ranks=Count("ranks", filter=~Q(ranks__process=""))
    )
    if "cluster" in request.GET:
        running = running.filter(host__cluster=request.GET["cluster"])
    runs = sorted(((run.n_ranks, run) for run in running), key=lambda each: (-each[0], each[1].pk))
    return render(
        request, "training/_headlines.html", {"headlines": [_mfu(runs), _per_joule([run for _, run in runs])]}
    )


def _mfu(runs: Sequence[tuple[int, Run]]) -> Headline:
    """Return the mean over runs, each as many times as it has ranks: an hour of a device counts the same in each."""
    known = [(run.mfu_ratio, max(1, n_ranks)) for n_ranks, run in runs if run.mfu_ratio is not None]
    n = sum(ranks for _, ranks in known)
    return Headline(
        label="Model FLOPs utilisation",
        value=sum(ratio * ranks for ratio, ranks in known) / n if n else None,
        unit="ratio",
        note=f"MFU of {len(known):,} of {len(runs):,} running {'run' if len(runs) == 1 else 'runs'}, by ranks",
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


def _per_joule(runs: Sequence[Run]) -> Headline:
    """Return the work per joule of the run with most ranks: that of different work cannot be added."""
    found = summaries.summaries(runs[:1], _WINDOW_MS, timezone.now()).get(runs[0].pk) if runs else None
    unit = found.per_joule.unit if found else "samples_per_joule"
    return Headline(
        label="Tokens per joule" if unit == "tokens_per_joule" else "Samples per joule",
        value=found.per_joule.value if found else None,
        unit=unit,
        note=f"{runs[0].name}, last hour" if runs else "",
        href=f"/runs/{runs[0].pk}/" if runs else "/runs/",
        why_unknown=(found.per_joule.why if found else "its figures are being read") if runs else _NONE,
        series="s3",
    )
