"""What is said of a reference job's result beside others like it, and the fresh runs that confirm a suspicion.

Written by training/judging alone; the arithmetic is training/verdicts'.
"""

from django.db import models

from training.models.jobs import ReferenceJob


class Outcome(models.TextChoices):
    PASS = "pass", "pass"
    SUSPECT = "suspect", "suspect"
    SLOW = "slow", "slow"
    FAILED = "failed", "failed"
    NO_BASELINE = "no_baseline", "no baseline"
    CONTAMINATED = "contaminated", "contaminated"


class LossAgreement(models.TextChoices):
    SAME = "same", "same losses"
    DIFFERS = "differs", "losses differ"
    UNKNOWN = "unknown", "not compared"


class Verdict(models.Model):
    """One for each job that has ended, its outcome as it stands now.

    Jobs with one `key` can be compared: device model, workload, parameters and software are the same (training/judging/key.py).
    `screens` are [{"side": "own" | "population", "metric", "n", "n_devices", "standing", "value", "median", "scale", "z",
    "deviation", "alarm_at"}]; `confirmation` holds the tests of the fresh runs, by side and metric.
    """

    job = models.OneToOneField(ReferenceJob, on_delete=models.CASCADE, related_name="verdict")
    key = models.CharField(
        max_length=64, blank=True, default="", help_text="Digest of what must be equal; empty without a result."
    )
    key_parts = models.JSONField(default=dict)
    device_key = models.BigIntegerField(
        null=True, help_text="The device's id, kept beside the key: histories are asked by both."
    )
    values = models.JSONField(default=dict, help_text="{metric: value} in base units.")
    outcome = models.CharField(max_length=12, choices=Outcome.choices)
    reason = models.TextField(blank=True, default="")
    is_clean = models.BooleanField(default=True, help_text="No mark of contamination: it may stand in a baseline.")
    markers = models.JSONField(default=list, help_text="Why it is contaminated, in words.")
    screens = models.JSONField(default=list)
    cause = models.JSONField(default=dict, help_text="What telemetry shows of a slow run's window.")

    losses = models.JSONField(default=list, help_text="By step, null where one did not arrive.")
    agreement = models.CharField(max_length=7, choices=LossAgreement.choices, default=LossAgreement.UNKNOWN)
    agreement_reason = models.TextField(blank=True, default="")
    agreement_detail = models.JSONField(default=dict, help_text="Where it differs, and the peers' median curve.")

    confirmation = models.JSONField(default=dict)
    is_open = models.BooleanField(
        default=False, db_index=True, help_text="A suspicion whose fresh runs are not all in."
    )
    asked_by = models.CharField(
        max_length=150, blank=True, default="", help_text="Who wants it confirmed; empty: the screen."
    )
    ended_at = models.DateTimeField(db_index=True, help_text="When the job ended.")
    judged_at = models.DateTimeField()
    opened_at = models.DateTimeField(null=True)
    settled_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-ended_at"]
        indexes = [models.Index(fields=["key", "device_key", "-ended_at"], name="verdict_history")]

    def __str__(self) -> str:
        return f"job {self.job_id}: {self.outcome}"


class FreshRun(models.Model):
    """A job that was launched to confirm or refute a suspicion."""

    verdict = models.ForeignKey(Verdict, on_delete=models.CASCADE, related_name="fresh_runs")
    job = models.OneToOneField(ReferenceJob, on_delete=models.CASCADE, related_name="fresh_for")

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"job {self.job_id} for {self.verdict_id}"
