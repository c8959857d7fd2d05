"""What training says of hosts in the table of hosts: the run or reference job there now, and the newest deviation.

Handed to telemetry/newest/host_columns.py when Django starts; four queries, whatever the number of hosts.
"""

from collections.abc import Mapping, Sequence

from django.urls import reverse
from django.utils import timezone

from telemetry.newest.host_columns import HostColumns
from training.judging import results
from training.models import JobState, ReferenceJob, Run, RunRank

_MANY_HOSTS = 100  # their ids make a longer question than all that runs an answer


def columns(host_ids: Sequence[int], *, with_baselines: bool) -> Mapping[int, HostColumns]:
    work = _work(host_ids)
    cells = results.slowest_by_host(host_ids) if with_baselines else {}
    found = {}
    for pk in host_ids:
        job, url, owner = work.get(pk, ("", "", ""))
        cell = cells.get(pk)
        found[pk] = HostColumns(job, url, owner, cell.deviation if cell else None, cell is not None and cell.is_flagged)
    return found


def _work(host_ids: Sequence[int]) -> dict[int, tuple[str, str, str]]:
    """Return (name, address, whose) by host: the run with the newest step, and before it a reference job."""
    ranks = RunRank.objects.filter(run__ends_at__gt=timezone.now(), host__isnull=False)
    jobs = ReferenceJob.objects.filter(state=JobState.RUNNING)
    if len(host_ids) <= _MANY_HOSTS:
        ranks, jobs = ranks.filter(host__in=host_ids), jobs.filter(host__in=host_ids)
    place: dict[int, list[int]] = {}
    for host_id, run_id in ranks.order_by().values_list("host", "run").distinct():
        place.setdefault(run_id, []).append(host_id)
    found: dict[int, tuple[str, str, str]] = {}
    runs = Run.objects.filter(pk__in=place).order_by("last_step_at")
    for pk, name, *whose in runs.values_list("pk", "name", "group", "owner", "user"):
        work = name, reverse("training:run", args=[pk]), next(filter(None, whose), "")
        found.update(dict.fromkeys(place[pk], work))
    for pk, workload, host_id, requested_by in jobs.values_list("pk", "workload", "host", "requested_by"):
        found[host_id] = (f"reference: {workload}", reverse("training:job", args=[pk]), requested_by)
    return found
