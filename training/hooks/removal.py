"""What becomes of a host's reference jobs and runs when the host is removed: jobs that run are ended. Loaded by TrainingConfig.

The rows go with the host; the host's agent, which still knows the server's key, is told to end what it runs. Runs that were
on that host alone go too.
"""

from datetime import datetime

from django.db import transaction
from django.db.models import Q
from django.dispatch import receiver

from fleet.inventory.removal import host_goes, host_leaves
from fleet.models import Host
from training.jobs import orders
from training.models import ACTIVE_STATES, ReferenceJob, Run, RunRank
from training.runs import retention


@receiver(host_leaves)
def end_jobs(host: Host, now: datetime, **_: object) -> None:
    for job in ReferenceJob.objects.select_related("host").filter(host=host, state__in=ACTIVE_STATES):
        transaction.on_commit(lambda job=job: orders.send_cancel(job, now))  # type: ignore[misc]  # a default argument binds it


@receiver(host_goes)
def forget_a_run(host_id: int, **_: object) -> int:
    on_others = RunRank.objects.exclude(host=host_id).exclude(host=None).values("run")
    own = Run.objects.filter(Q(host=host_id) | Q(ranks__host=host_id)).exclude(pk__in=on_others)
    run = own.only("pk").first()
    return 0 if run is None else retention.delete_some(run) or Run.objects.filter(pk=run.pk).delete()[0]
