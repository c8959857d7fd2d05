"""Reference jobs: one workload on one host each, asked for by a person or a script."""

from django.db import models
from django.utils import timezone

from fleet.models import Device, Host
from training.models.runs import Run
from training.models.teams import Team


class JobState(models.TextChoices):
    QUEUED = "queued", "queued"
    STARTING = "starting", "starting"
    RUNNING = "running", "running"
    DONE = "done", "done"
    FAILED = "failed", "failed"
    CANCELLED = "cancelled", "cancelled"
    LOST = "lost", "lost"


ACTIVE_STATES = (JobState.QUEUED, JobState.STARTING, JobState.RUNNING)
FINAL_STATES = (JobState.DONE, JobState.FAILED, JobState.CANCELLED, JobState.LOST)


class ReferenceJob(models.Model):
    """One reference workload on one device. A launch on several hosts makes one job each, with one `launch`.

    The jobs of a `team` are the ranks of one distributed job: tables, results and verdicts know only its rank 0.
    """

    launch = models.CharField(max_length=32, db_index=True)
    workload = models.CharField(max_length=40)
    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="reference_jobs")
    device = models.ForeignKey(Device, on_delete=models.SET_NULL, null=True, blank=True, related_name="reference_jobs")
    team = models.ForeignKey(Team, on_delete=models.CASCADE, null=True, blank=True, related_name="jobs", db_index=False)
    rank = models.PositiveIntegerField(default=0)
    run = models.OneToOneField(Run, on_delete=models.SET_NULL, null=True, blank=True, related_name="reference_job")
    params = models.JSONField(default=dict)
    time_limit_seconds = models.PositiveIntegerField()
    forced = models.TextField(
        blank=True, default="", help_text="Why it was to run although its device was in use or short of memory."
    )
    requested_by = models.CharField(max_length=150)

    state = models.CharField(max_length=9, choices=JobState.choices, default=JobState.QUEUED, db_index=True)
    reason = models.TextField(blank=True, default="", help_text="Why it waits, failed, was cancelled or lost.")
    stage = models.CharField(max_length=40, blank=True, default="")
    step = models.PositiveIntegerField(default=0)
    total_steps = models.PositiveIntegerField(default=0)
    result = models.JSONField(
        default=dict, help_text="What the harness measured, in base units; foreign data, checked."
    )
    energy = models.JSONField(default=dict, help_text="Power and joules over the measured window, or why unknown.")
    log = models.TextField(blank=True, default="")

    created_at = models.DateTimeField(default=timezone.now, db_index=True)
    expires_at = models.DateTimeField(help_text="A host that takes the order later than this does not start it.")
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    heard_at = models.DateTimeField(null=True, blank=True, help_text="When the agent last spoke of this job.")
    sent_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="When an order or cancel last went to the host; null once the host has told the job's end.",
    )
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    report_sequence = models.BigIntegerField(
        default=-1, help_text="Newest report applied; an older one changes nothing."
    )

    class Meta:
        ordering = ["-created_at"]
        # Partial: nearly all jobs have no team, and what asks for those is not to be led through them all.
        indexes = [models.Index(fields=["team"], condition=models.Q(team__isnull=False), name="job_of_team")]

    def __str__(self) -> str:
        return f"{self.workload} on {self.host.name}"

    @property
    def place(self) -> str:
        """Return which rank it is and where, for people."""
        return f"rank {self.rank} on {self.host.name}"

    @property
    def can_be_sent(self) -> bool:
        """Tell whether its order could say all: the other ranks go to where rank 0 listens."""
        return self.team is None or self.rank == 0 or bool(self.team.address)

    @property
    def is_final(self) -> bool:
        return self.state in FINAL_STATES


def ranks_with_hosts() -> "models.Prefetch[str]":
    """Return what reads the hosts of many verdicts' teams by one query, for Team.hosts."""
    rows = ReferenceJob.objects.select_related("host").defer("log", "result", "params", "energy")
    return models.Prefetch("job__team__jobs", rows)
