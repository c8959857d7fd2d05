"""Ladders: one workload, rung by rung, in randomised blocks of fresh processes on one device.

Driven by training/jobs/ladder_runs.py.
"""

from django.db import models
from django.utils import timezone

from fleet.models import Device, Host
from training.models.jobs import ReferenceJob


class LadderState(models.TextChoices):
    RUNNING = "running", "running"
    DONE = "done", "done"
    FAILED = "failed", "failed"
    CANCELLED = "cancelled", "cancelled"


class LadderRun(models.Model):
    """One ladder. `rungs` are [{"name", "params"}], bottom first; `order` is a list of blocks, each of indices into them.

    `not_offered` is {index of a rung as text: why the device lacks it}, found out by its first process.
    """

    workload = models.CharField(max_length=40)
    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="ladders")
    device = models.ForeignKey(Device, on_delete=models.SET_NULL, null=True, related_name="ladders")
    params = models.JSONField(default=dict, help_text="What all rungs share.")
    rungs = models.JSONField()
    order = models.JSONField()
    not_offered = models.JSONField(default=dict)
    requested_by = models.CharField(max_length=150)
    state = models.CharField(max_length=9, choices=LadderState.choices, default=LadderState.RUNNING, db_index=True)
    reason = models.TextField(blank=True, default="")
    created_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"ladder of {self.workload} on {self.host.name}"

    @property
    def is_final(self) -> bool:
        return self.state != LadderState.RUNNING


class LadderProcess(models.Model):
    """One fresh process of a ladder: its place, and the job that it is."""

    ladder = models.ForeignKey(LadderRun, on_delete=models.CASCADE, related_name="processes")
    block = models.PositiveIntegerField()
    rung = models.PositiveIntegerField()
    job = models.OneToOneField(ReferenceJob, on_delete=models.CASCADE, related_name="ladder_process")

    class Meta:
        ordering = ["pk"]
        constraints = [models.UniqueConstraint(fields=["ladder", "block", "rung"], name="ladder_process_once")]

    def __str__(self) -> str:
        return f"{self.ladder_id} block {self.block} rung {self.rung}"
