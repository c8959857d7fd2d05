"""A person's word that a device's present speed is what it is to be measured by from now on: after a new driver, a repair.

Written by training/judging/acceptance.py alone. Rows stay: what was accepted, by whom and why, is history.
"""

from django.db import models
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Value
from django.db.models.functions import Coalesce

from training.models.jobs import ReferenceJob


class AcceptedBaseline(models.Model):
    """From `since` on, results of the device and of the kind of run count; earlier ones stand in no baseline any more.

    An empty `key` is all kinds of runs of the device.
    """

    job = models.OneToOneField(
        ReferenceJob, on_delete=models.CASCADE, related_name="accepted", help_text="The result that was accepted."
    )
    device_key = models.BigIntegerField(help_text="The device's id, as in Verdict.")
    key = models.CharField(max_length=64, blank=True, default="", help_text="As in Verdict; empty for all.")
    since = models.DateTimeField()
    reason = models.CharField(max_length=500)
    accepted_by = models.CharField(max_length=150)
    accepted_at = models.DateTimeField()

    class Meta:
        ordering = ["-accepted_at"]
        indexes = [models.Index(fields=["device_key", "-since"], name="accepted_of_device")]

    def __str__(self) -> str:
        return f"job {self.job_id} by {self.accepted_by}"


def accepted_of(device_key: int | OuterRef, members: Value | OuterRef) -> "QuerySet[AcceptedBaseline]":
    """Return what was accepted of a device, or of a distributed job's devices; `members` is "" or null where it ran alone."""
    own, wanted = Coalesce("job__team__members", Value("")), Coalesce(members, Value(""))
    found = AcceptedBaseline.objects.annotate(members=own, wanted=wanted)
    return found.filter(members=F("wanted")).filter(Q(device_key=device_key) | ~Q(members=""))


def replaced() -> Exists:
    """Return the condition on verdicts that the run is older than what was accepted of its device, or devices, since."""
    is_alike = Q(key="") | Q(key=OuterRef("key"))
    found = accepted_of(OuterRef("device_key"), OuterRef("job__team__members"))
    return Exists(found.filter(is_alike, since__gt=OuterRef("ended_at")))
