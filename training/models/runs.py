"""Runs of training loops, the processes that take part in them, and their steps as compressed columns."""

from datetime import datetime

from django.db import models
from django.utils import timezone

from fleet.models import Device, Host


class Run(models.Model):
    """One launch of a training loop, recognised by name, launch id and the user whose processes tell of it.

    `user` is what the kernel of the host says of the sender, so that nobody's loop adds to another's run. One that was
    started again under the same launch goes on here. A run is over when nothing has come until `ends_at`.
    """

    name = models.CharField(max_length=200)
    launch = models.CharField(max_length=64, help_text="Chosen by the client; the same for all ranks of a launch.")
    user = models.CharField(
        max_length=100, blank=True, default="", help_text="Of the processes; empty where it was imported."
    )
    owner = models.CharField(max_length=100, blank=True, default="", help_text="As the loop says, else the user.")
    group = models.CharField(
        max_length=100,
        blank=True,
        default="",
        help_text="As the loop says, else its Slurm account, else its Unix group.",
    )
    host = models.ForeignKey(Host, on_delete=models.SET_NULL, null=True, blank=True, related_name="runs")
    world_size = models.PositiveIntegerField(null=True, blank=True, help_text="How many ranks the launcher tells of.")
    description = models.JSONField(
        default=dict,
        blank=True,
        help_text="What the loop says of itself: samples_per_step, flops_per_sample, dtype, model, framework …",
    )
    restarts = models.PositiveIntegerField(default=0, help_text="How often a rank was started again, at most.")
    started_at = models.DateTimeField(default=timezone.now)
    last_step_at = models.DateTimeField(null=True, blank=True, db_index=True)
    ends_at = models.DateTimeField(null=True, blank=True, db_index=True)
    mfu_ratio = models.FloatField(
        null=True, blank=True, help_text="Over its newest minute, while it runs; None where it is not known."
    )

    class Meta:
        ordering = ["-started_at"]
        constraints = [models.UniqueConstraint(fields=["name", "launch", "user"], name="run_once_a_launch")]

    def __str__(self) -> str:
        return self.name

    def is_running(self, now: datetime) -> bool:
        return self.ends_at is not None and now < self.ends_at


class RunRank(models.Model):
    """One process of a run: a rank in one of its starts, which `attempt` counts from 0.

    The client numbers its frames from 0: those below `newest_sequence` that are not among the `n_frames` were lost. The sums
    and the histogram (training/steps/histogram.py) are those of its training steps, warm-up apart; they outlive the steps.
    """

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="ranks")
    rank = models.PositiveIntegerField()
    attempt = models.PositiveIntegerField(default=0)
    process = models.CharField(
        max_length=32, blank=True, default="", help_text="Chosen by the client, at random, for each process and run."
    )
    host = models.ForeignKey(Host, on_delete=models.SET_NULL, null=True, blank=True, related_name="run_ranks")
    device = models.ForeignKey(Device, on_delete=models.SET_NULL, null=True, blank=True, related_name="run_ranks")
    device_uuids = models.JSONField(default=list, blank=True, help_text="All devices of the process.")
    pid = models.PositiveIntegerField(null=True, blank=True, help_text="As the agent's host counts them.")
    restart = models.PositiveIntegerField(default=0, help_text="The launcher's own count of restarts.")
    first_ms = models.BigIntegerField(help_text="When its first step began, UTC milliseconds.")
    last_ms = models.BigIntegerField(help_text="When its newest step ended.")
    newest_sequence = models.BigIntegerField(default=-1)
    n_frames = models.PositiveBigIntegerField(default=0, help_text="How many came.")
    n_dropped = models.PositiveBigIntegerField(default=0, help_text="Of the lost frames those that the client dropped.")
    n_steps = models.PositiveBigIntegerField(default=0)
    seconds = models.FloatField(default=0.0)
    samples = models.FloatField(null=True)
    tokens = models.FloatField(null=True)
    histogram = models.JSONField(default=list)

    class Meta:
        ordering = ["run", "rank", "attempt"]
        constraints = [
            models.UniqueConstraint(fields=["run", "rank", "attempt"], name="rank_once_an_attempt"),
            models.UniqueConstraint(fields=["run", "rank", "process"], name="rank_once_a_process"),
        ]

    def __str__(self) -> str:
        return f"{self.run_id} rank {self.rank} attempt {self.attempt}"

    @property
    def tells(self) -> bool:
        """Tell whether it is a rank, and not a further host of an imported run, which has no steps of its own."""
        return bool(self.process) or self.n_steps > 0

    @property
    def n_lost(self) -> int:
        """Return how many frames, up to the newest that came, have not come: lost on the way, or still under way."""
        return max(0, self.newest_sequence + 1 - self.n_frames)


TELLS = ~models.Q(process="") | models.Q(n_steps__gt=0)  # RunRank.tells, for queries


class RunLife(models.Model):
    """What a run that is over did in all its time; its columns are those of training/runs/doings.py, which says what they are.

    It holds for the steps that ended at `last_step_at` and for the `rates` of energy; from `due_at` on it is to be worked out
    once more, as readings of hosts may have come late.
    """

    run = models.OneToOneField(Run, on_delete=models.CASCADE, primary_key=True, related_name="life")
    last_step_at = models.DateTimeField()
    rates = models.CharField(max_length=64)
    due_at = models.DateTimeField(null=True, blank=True, db_index=True)
    device_hours = models.FloatField(null=True)
    joules = models.FloatField(null=True)
    covered_ratio = models.FloatField(null=True)
    cost = models.FloatField(null=True)
    busy_ratio = models.FloatField(null=True)
    idle_energy_ratio = models.FloatField(null=True)
    why_not_idle = models.TextField(default="")
    mfu_ratio = models.FloatField(null=True)
    goodput_ratio = models.FloatField(null=True)
    per_joule = models.FloatField(null=True)
    per_joule_unit = models.CharField(max_length=40, default="")
    why = models.TextField(default="")
    part_seconds = models.FloatField(null=True)
    trend = models.JSONField(default=list)

    def __str__(self) -> str:
        return f"{self.run_id} until {self.last_step_at:%F %T}"


class FleetMfu(models.Model):
    """The MFU of the runs that ran in a minute in a cluster: `weighted` is its sum over `ranks`, those whose MFU is known."""

    minute_ms = models.BigIntegerField(help_text="When the minute began, UTC milliseconds.")
    cluster = models.CharField(max_length=63, blank=True, default="")
    weighted = models.FloatField()
    ranks = models.PositiveIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["minute_ms", "cluster"], name="mfu_once_a_minute")]

    def __str__(self) -> str:
        return f"{self.cluster} at {self.minute_ms}"


class StepChunk(models.Model):
    """Steps of a run, some of one moment or many of a long time (training/steps/body.py). Any two may overlap in time."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="+", db_index=False)
    first_ms = models.BigIntegerField(help_text="When the first of them ended, UTC milliseconds.")
    last_ms = models.BigIntegerField(help_text="When the last of them ended, rounded up.")
    n_steps = models.PositiveIntegerField()
    lowest_rank = models.PositiveIntegerField()
    highest_rank = models.PositiveIntegerField()
    body = models.BinaryField()

    class Meta:
        indexes = [
            models.Index(fields=["run", "last_ms"], name="step_chunk_by_time"),
            models.Index(fields=["run", "n_steps"], name="step_chunk_by_size"),  # compaction looks for small ones
        ]

    def __str__(self) -> str:
        return f"{self.run_id} from {self.first_ms}: {self.n_steps} steps"
