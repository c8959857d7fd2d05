"""Schedules of reference jobs: by time or after events, and which hosts a due schedule still waits for."""

from django.db import models
from django.utils import timezone

from fleet.models import Host
from training.models.jobs import ReferenceJob


class Trigger(models.TextChoices):
    """What a schedule may follow besides time."""

    HOST_BACK = "host_back", "host came back"
    SOFTWARE_CHANGED = "software_changed", "driver or software changed"
    DEVICE_NEW = "device_new", "device new or replaced"


class Schedule(models.Model):
    """One workload on the hosts of a selection, when `cron` (minute hour day month weekday, UTC) or a trigger says.

    `selection` holds the fields of training.jobs.selection.Selection; with `as_one` what it selects are the ranks of one
    distributed job, which starts when all their hosts are idle. `seen_until` and `seen_event` are up to when time,
    and up to which event, it was looked at; what was before `active_since` and `first_event` is not its business.
    """

    name = models.CharField(max_length=100, unique=True)
    workload = models.CharField(max_length=40)
    params = models.JSONField(default=dict)
    selection = models.JSONField(default=dict)
    as_one = models.BooleanField(default=False)
    cron = models.CharField(max_length=100, blank=True, default="")
    triggers = models.JSONField(default=list)
    is_active = models.BooleanField(default=True)
    created_by = models.CharField(max_length=150)
    created_at = models.DateTimeField(default=timezone.now)
    seen_until = models.DateTimeField(default=timezone.now)
    seen_event = models.BigIntegerField(null=True, help_text="The newest event's id; null: not looked at yet.")
    active_since = models.DateTimeField(default=timezone.now)
    first_event = models.BigIntegerField(default=0)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class ScheduledVisit(models.Model):
    """A host that a due schedule is to run on, as soon as it is idle; `job` once it has, `ended_at` when nothing more follows.

    `causes` name what happened (training/jobs/occasions.py), so that it is followed once.
    """

    schedule = models.ForeignKey(Schedule, on_delete=models.CASCADE, related_name="visits")
    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="+")
    device_uuid = models.CharField(max_length=96, blank=True, default="")
    why = models.CharField(max_length=200)
    causes = models.JSONField(default=list)
    due_at = models.DateTimeField()
    job = models.OneToOneField(ReferenceJob, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    outcome = models.CharField(max_length=500, blank=True, default="", help_text="Why it started nothing.")
    ended_at = models.DateTimeField(null=True, blank=True, db_index=True)

    class Meta:
        ordering = ["-due_at", "pk"]

    def __str__(self) -> str:
        return f"{self.schedule_id} on {self.host_id} at {self.due_at:%F %T}"
