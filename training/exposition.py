"""Training's Prometheus families: reference jobs, their newest results, and the runs that step right now.

Named as a string by telemetry's exposition; asks the models and writes nothing.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Max, Q, QuerySet, Sum

from fleet.models import Host
from telemetry.exposition import DEVICE_LABELS, HOST_LABELS
from telemetry.textformat import Family, Type, label_text, number_text
from training.models import JobState, ReferenceJob, Run

ACTIVE = timedelta(minutes=5)  # a run that made no step for this long leaves, as a host that went silent does
_BOUNDS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


def families(hosts: Sequence[Host], now: datetime) -> list[Family]:
    return [_job_states(hosts), *_results(hosts), *_runs(hosts, now)]


def _job_states(hosts: Sequence[Host]) -> Family:
    family = Family(
        "stepwatt_reference_jobs",
        Type.GAUGE,
        "Reference jobs that are kept, by workload and state.",
        (*HOST_LABELS, "workload", "state"),
    )
    columns = ("host__name", "host__cluster", "workload", "state")
    counts = ReferenceJob.objects.filter(host__in=hosts).order_by(*columns).values_list(*columns)
    for *labels, n in counts.annotate(n=Count("pk")):
        family.add(label_text(family.labels, labels), str(n))
    return family


def _results(hosts: Sequence[Host]) -> list[Family]:
    labels = (*DEVICE_LABELS, "workload")
    speed = Family(
        "stepwatt_reference_samples_per_second",
        Type.GAUGE,
        "Throughput of the newest finished reference job of a workload on a device.",
        labels,
    )
    efficiency = Family(
        "stepwatt_reference_samples_per_joule",
        Type.GAUGE,
        "Efficiency of the newest finished reference job of a workload on a device, if its energy is known.",
        labels,
    )
    for job in _newest_done(hosts):
        device = job.device
        if device is not None:
            values = (job.host.name, job.host.cluster, device.index, device.uuid, job.workload)
            text = label_text(labels, values)
            _add_where_known(speed, text, job.result.get("samples_per_second"))
            _add_where_known(efficiency, text, job.energy.get("samples_per_joule"))
    return [speed, efficiency]


def _newest_done(hosts: Sequence[Host]) -> QuerySet[ReferenceJob]:
    done = ReferenceJob.objects.filter(host__in=hosts, state=JobState.DONE, device__isnull=False)
    newest = done.order_by().values("host", "device", "workload").annotate(newest=Max("pk")).values("newest")
    jobs = ReferenceJob.objects.filter(pk__in=newest).select_related("host", "device").defer("log")
    return jobs.order_by("host__name", "workload", "device__index")


def _runs(hosts: Sequence[Host], now: datetime) -> list[Family]:
    """Return what the running runs have done since they began; all of it leaves the warm-up's steps out."""
    labels = (*HOST_LABELS, "run", "launch")
    samples = Family(
        "stepwatt_training_samples",
        Type.COUNTER,
        "Samples that a running run has trained on since its warm-up.",
        labels,
    )
    seconds = Family(
        "stepwatt_training_step_seconds",
        Type.HISTOGRAM,
        "Step times of a running run since its warm-up, over all its ranks.",
        labels,
        "seconds",
    )
    for run in _running(hosts, now):
        text = label_text(labels, (run.host.name, run.host.cluster, run.name, run.launch))
        _add_where_known(samples, text, run.n_samples)
        if run.n_steps:
            cumulative = [(bound, getattr(run, f"up_to_{i}")) for i, bound in enumerate(_BOUNDS_SECONDS)]
            seconds.add_histogram(text, cumulative, run.n_steps, run.total_seconds)
    return [samples, seconds]


def _running(hosts: Sequence[Host], now: datetime) -> QuerySet[Any]:
    """Return the runs that step, with sums over all of their steps: a counter may not forget the older ones."""
    measured = Q(steps__is_warmup=False)
    up_to = {
        f"up_to_{i}": Count("steps", filter=measured & Q(steps__seconds__lte=bound))
        for i, bound in enumerate(_BOUNDS_SECONDS)
    }
    runs = Run.objects.filter(host__in=hosts, last_step_at__gte=now - ACTIVE).select_related("host")
    return runs.order_by("host__name", "name", "launch").annotate(
        n_steps=Count("steps", filter=measured),
        n_samples=Sum("steps__samples", filter=measured),
        total_seconds=Sum("steps__seconds", filter=measured),
        **up_to,
    )


def _add_where_known(family: Family, labels: str, value: object) -> None:
    if isinstance(value, int | float):
        family.add(labels, number_text(value))
