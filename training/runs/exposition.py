"""Prometheus families of the runs that step right now: one series for each run on each host, of all its ranks there.

A run that is over leaves, as a host that went silent does. Called by training/hooks/exposition.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate

from fleet.models import Host
from telemetry.exposition.own_names import HOST_LABELS
from telemetry.exposition.textformat import Family, Type, label_text, number_text
from training.models import Run, RunRank
from training.steps import histogram

_LABELS = (*HOST_LABELS, "run", "launch")
_OF_RUN = ("host__name", "host__cluster", "name", "launch")
_COLUMNS = ("host__name", "host__cluster", "run__name", "run__launch")


@dataclass(slots=True)
class _Totals:
    """Sums over the processes of a run on a host, None where none of them tells."""

    samples: float | None = None
    tokens: float | None = None
    lost: int = 0
    seconds: float = 0.0
    histogram: list[int] = field(default_factory=list)

    def add(self, rank: RunRank) -> None:
        self.samples = _sum(self.samples, rank.samples)
        self.tokens = _sum(self.tokens, rank.tokens)
        self.lost += rank.n_lost
        self.seconds += rank.seconds
        self.histogram = histogram.summed(self.histogram, rank.histogram)


def runs(hosts: Sequence[Host], now: datetime) -> list[Family]:
    """Return what the running runs have done since they began; steps and sums leave the warm-up out."""
    samples, tokens, lost, seconds = _families()
    for key, totals in _totals(hosts, now).items():
        text = label_text(_LABELS, key)
        for family, value in ((samples, totals.samples), (tokens, totals.tokens), (lost, totals.lost)):
            if value is not None:
                family.add(text, number_text(value))
        n_steps = sum(totals.histogram)
        if n_steps:
            cumulative = list(zip(histogram.BOUNDS_SECONDS, accumulate(totals.histogram), strict=False))
            seconds.add_histogram(text, cumulative, n_steps, totals.seconds)
    return [samples, tokens, lost, seconds, _utilisation(hosts, now)]


def _utilisation(hosts: Sequence[Host], now: datetime) -> Family:
    """Return what is known of the runs as wholes, each once: on the host that told of it first."""
    family = Family(
        "stepwatt_training_mfu_ratio",
        Type.GAUGE,
        "Model FLOPs utilisation of a running run over its newest minute, all its devices together, where it is known.",
        _LABELS,
        "ratio",
    )
    known = Run.objects.filter(host__in=hosts, ends_at__gt=now, mfu_ratio__isnull=False)
    newest = {row[:4]: row[4] for row in known.order_by(*_OF_RUN, "last_step_at").values_list(*_OF_RUN, "mfu_ratio")}
    for key, ratio in newest.items():
        family.add(label_text(_LABELS, key), number_text(ratio))
    return family


def _families() -> tuple[Family, Family, Family, Family]:
    return (
        Family("stepwatt_training_samples", Type.COUNTER,
               "Samples that a running run has trained on since its warm-up.", _LABELS),
        Family("stepwatt_training_tokens", Type.COUNTER,
               "Tokens that a running run has trained on since its warm-up.", _LABELS),
        Family("stepwatt_training_lost_datagrams", Type.COUNTER,
               "Step timings of a running run that never reached the server.", _LABELS),
        Family("stepwatt_training_step_seconds", Type.HISTOGRAM,
               "Step times of a running run since its warm-up, over all its ranks.", _LABELS, "seconds"),
    )  # fmt: skip


def _totals(hosts: Sequence[Host], now: datetime) -> dict[tuple[str, str, str, str], _Totals]:
    """Return the totals by host, cluster, run and launch; runs of two users that share these count together."""
    ranks = RunRank.objects.filter(host__in=hosts, run__ends_at__gt=now).select_related("host", "run")
    found: dict[tuple[str, str, str, str], _Totals] = {}
    for rank in ranks.order_by(*_COLUMNS):
        if rank.host is not None:
            key = (rank.host.name, rank.host.cluster, rank.run.name, rank.run.launch)
            found.setdefault(key, _Totals()).add(rank)
    return found


def _sum(one: float | None, other: float | None) -> float | None:
    return one if other is None else other if one is None else one + other
