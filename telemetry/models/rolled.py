"""Statistics over buckets of a minute, a quarter of an hour and an hour, of hosts and of groups, and what is to be made again.

The bytes of a body are known to the store alone (store/statistics.py).
"""

from django.db import models

from fleet.models import Host


class Rollup(models.Model):
    """Statistics of all series of a host's devices over `n_buckets` buckets of `step_seconds`, from `start_ms` on.

    A fresh one holds a single bucket; compaction joins them.
    """

    pk = models.CompositePrimaryKey("host_id", "step_seconds", "start_ms", "n_buckets")
    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="+", db_index=False)
    step_seconds = models.PositiveSmallIntegerField()
    start_ms = models.BigIntegerField()
    n_buckets = models.PositiveSmallIntegerField()
    body = models.BinaryField()

    def __str__(self) -> str:
        return f"{self.host_id} {self.step_seconds} s from {self.start_ms}"


class GroupKind(models.TextChoices):
    FLEET = "fleet", "fleet"
    CLUSTER = "cluster", "cluster"
    MODEL = "model", "model"
    LABEL = "label", "label"


class RollupGroup(models.Model):
    """A group of devices whose statistics are kept: `value` of `key`, where it is a label; of one kind of devices.

    `devices` is what the group counts: accelerator, cpu or node; or account, of which only energy is kept (store/groups.py).
    Parts of devices (MIG instances) are in none.
    """

    kind = models.CharField(max_length=7, choices=GroupKind.choices)
    key = models.CharField(max_length=63, blank=True, default="")
    value = models.CharField(max_length=500, blank=True, default="")
    devices = models.CharField(max_length=11)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["kind", "key", "value", "devices"], name="group_once")]

    def __str__(self) -> str:
        return f"{self.kind} {self.key} {self.value} ({self.devices})"


class GroupMembers(models.Model):
    """Which of a host's devices the groups' statistics count: {group id: [device ids]}; what has changed since is seen by it.

    It outlives its host: the groups that the host was in are then made again without it.
    """

    host_id = models.BigIntegerField(primary_key=True)
    digest = models.CharField(max_length=32)
    devices = models.JSONField(default=dict)

    def __str__(self) -> str:
        return f"groups of {self.host_id}"


class GroupRollup(models.Model):
    """Statistics across the devices of a group, as Rollup has them of one host."""

    pk = models.CompositePrimaryKey("group_id", "step_seconds", "start_ms", "n_buckets")
    group = models.ForeignKey(RollupGroup, on_delete=models.CASCADE, related_name="+", db_index=False)
    step_seconds = models.PositiveSmallIntegerField()
    start_ms = models.BigIntegerField()
    n_buckets = models.PositiveSmallIntegerField()
    body = models.BinaryField()

    def __str__(self) -> str:
        return f"{self.group_id} {self.step_seconds} s from {self.start_ms}"


class DirtyRollup(models.Model):
    """A bucket of a host whose statistics are to be made (again), because a batch for it has come."""

    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="+")
    step_seconds = models.PositiveSmallIntegerField()
    start_ms = models.BigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["host", "step_seconds", "start_ms"], name="dirty_rollup_once")]
        indexes = [models.Index(fields=["step_seconds", "start_ms"], name="dirty_rollup_by_time")]

    def __str__(self) -> str:
        return f"{self.host_id} {self.step_seconds} s from {self.start_ms}"


class DirtyGroup(models.Model):
    """A bucket of a group whose statistics are to be made (again), because a host's have changed, or its members."""

    group = models.ForeignKey(RollupGroup, on_delete=models.CASCADE, related_name="+")
    step_seconds = models.PositiveSmallIntegerField()
    start_ms = models.BigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["group", "step_seconds", "start_ms"], name="dirty_group_once")]
        indexes = [models.Index(fields=["step_seconds", "start_ms"], name="dirty_group_by_time")]

    def __str__(self) -> str:
        return f"{self.group_id} {self.step_seconds} s from {self.start_ms}"
