"""What becomes of a host's reference jobs and runs when the host is removed: jobs that run are ended. Loaded by TrainingConfig.

The rows go with the host; the host's agent, which still knows the server's key, is told to end what it runs. Runs that were
on that host alone go too.
"""

from django.db import transaction
from django.db.models import Q
from django.db.models.signals import pre_delete
from django.dispatch import receiver
from django.utils import timezone

from fleet.models import Host
from training.jobs import orders
from training.models import ACTIVE_STATES, ReferenceJob, Run, RunRank


@receiver(pre_delete, sender=Host)
def end_jobs(instance: Host, **_: object) -> None:
    now = timezone.now()
    for job in ReferenceJob.objects.select_related("host").filter(host=instance, state__in=ACTIVE_STATES):
        transaction.on_commit(lambda job=job: orders.send_cancel(job, now))  # type: ignore[misc]  # a default argument binds it


@receiver(pre_delete, sender=Host)
def forget_runs(instance: Host, **_: object) -> None:
    on_others = RunRank.objects.exclude(host=instance).exclude(host=None).values("run")
    Run.objects.filter(Q(host=instance) | Q(ranks__host=instance)).exclude(pk__in=on_others).delete()
