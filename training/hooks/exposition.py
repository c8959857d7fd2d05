"""Training's Prometheus families: reference jobs, their newest results, and the runs that step right now.

Named as a string by telemetry's exposition; asks the models and writes nothing.
"""

from collections.abc import Sequence
from datetime import datetime

from django.db.models import Count, Max, QuerySet

from fleet.models import Host
from telemetry.exposition.own_names import DEVICE_LABELS, HOST_LABELS
from telemetry.exposition.textformat import Family, Type, label_text, number_text
from training.models import JobState, ReferenceJob
from training.runs.exposition import runs


def families(hosts: Sequence[Host], now: datetime) -> list[Family]:
    """Return what is told of the work on these hosts; families without a sample are among them."""
    return [_job_states(hosts), *_results(hosts), *runs(hosts, now)]


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
    done = ReferenceJob.objects.filter(host__in=hosts, state=JobState.DONE, device__isnull=False, team=None)
    newest = done.order_by().values("host", "device", "workload").annotate(newest=Max("pk")).values("newest")
    jobs = ReferenceJob.objects.filter(pk__in=newest).select_related("host", "device").defer("log")
    return jobs.order_by("host__name", "workload", "device__index")


def _add_where_known(family: Family, labels: str, value: object) -> None:
    if isinstance(value, int | float):
        family.add(labels, number_text(value))
