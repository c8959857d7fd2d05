"""What training says of hosts in the table of hosts: the run or reference job there now, and the newest deviation.

Handed to telemetry/host_columns.py when Django starts; four queries, whatever the number of hosts.
"""

from collections.abc import Mapping, Sequence

from django.db.models import Q
from django.urls import reverse
from django.utils import timezone

from telemetry.host_columns import HostColumns
from training.judging import results
from training.models import JobState, ReferenceJob, Run, RunRank


def columns(host_ids: Sequence[int]) -> Mapping[int, HostColumns]:
    work, cells = _work(host_ids), results.slowest_by_host(host_ids)
    found = {}
    for pk in host_ids:
        job, url, owner = work.get(pk, ("", "", ""))
        cell = cells.get(pk)
        found[pk] = HostColumns(job, url, owner, cell.deviation if cell else None, cell is not None and cell.is_flagged)
    return found


def _work(host_ids: Sequence[int]) -> dict[int, tuple[str, str, str]]:
    """Return (name, address, whose) by host: the run with the newest step, and before it a reference job."""
    now = timezone.now()
    there = RunRank.objects.filter(host__in=host_ids, run__ends_at__gt=now).values_list("host", "run").distinct()
    place: dict[int, list[int]] = {}
    for host_id, run_id in there:
        place.setdefault(run_id, []).append(host_id)
    found: dict[int, tuple[str, str, str]] = {}
    for run in Run.objects.filter(Q(pk__in=place)).order_by("last_step_at"):
        for host_id in place[run.pk]:
            found[host_id] = (run.name, reverse("training:run", args=[run.pk]), run.group or run.owner or run.user)
    jobs = ReferenceJob.objects.filter(host__in=host_ids, state=JobState.RUNNING).defer("log")
    for job in jobs:
        found[job.host_id] = (f"reference: {job.workload}", reverse("training:job", args=[job.pk]), job.requested_by)
    return found
