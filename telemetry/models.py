"""Where telemetry lives. Only telemetry/store reads and writes these tables; everybody else asks the store."""

from django.db import models

from fleet.models import Device, Host


class Chunk(models.Model):
    """One accepted batch as it came. The constraint is what makes ingest idempotent."""

    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="+")
    epoch = models.CharField(max_length=32)
    sequence = models.BigIntegerField()
    start_ms = models.BigIntegerField()
    end_ms = models.BigIntegerField()
    body = models.BinaryField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["host", "epoch", "sequence"], name="chunk_accepted_once")]
        indexes = [models.Index(fields=["host", "end_ms"], name="chunk_by_host_and_time")]

    def __str__(self) -> str:
        return f"{self.host_id}/{self.epoch}/{self.sequence}"


class LatestState(models.Model):
    """The newest readings of a host, one row a host.

    `devices` is {uuid: {"at_ms", "read_ms", "values": {metric: number}, "absent": {metric: reason}}}, with "part": true for
    a MIG instance, which leaves the row when its host does not name it any more; `processes` is
    {uuid: {"at_ms", "processes": [{"pid", "command", "user", …}]}}. `epoch` is the agent's life that it comes from, which
    began to sample at `epoch_began_ms`; `sequence` is that life's newest batch here, -1 where none stands here yet.
    `software_ms` and `topology_ms` are the newest sample that came with either.
    """

    host = models.OneToOneField(Host, on_delete=models.CASCADE, primary_key=True, related_name="+")
    at_ms = models.BigIntegerField()
    devices = models.JSONField()
    processes = models.JSONField(default=dict)
    epoch = models.CharField(max_length=32, default="")
    epoch_began_ms = models.BigIntegerField(default=0)
    sequence = models.BigIntegerField(default=-1)
    software_ms = models.BigIntegerField(default=0)
    topology_ms = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.host_id} at {self.at_ms}"


class MinuteRollup(models.Model):
    """Min, mean, max, count and last of one metric of one device over one minute, made from chunks."""

    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="+")
    metric = models.CharField(max_length=64)
    minute_ms = models.BigIntegerField()
    minimum = models.FloatField()
    mean = models.FloatField()
    maximum = models.FloatField()
    last = models.FloatField()
    count = models.PositiveIntegerField()
    increase = models.FloatField(
        null=True, help_text="Counters: growth from the sample before the minute; a reset adds nothing."
    )

    class Meta:
        constraints = [models.UniqueConstraint(fields=["device", "metric", "minute_ms"], name="rollup_once_a_minute")]
        # Fleet trends read one metric over a span of time, for all devices.
        indexes = [models.Index(fields=["metric", "minute_ms"], name="rollup_by_metric_and_time")]

    def __str__(self) -> str:
        return f"{self.device_id} {self.metric} {self.minute_ms}"


class DirtyMinute(models.Model):
    """A minute of a host whose rollups are to be made (again), because a batch for it has come."""

    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="+")
    minute_ms = models.BigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["host", "minute_ms"], name="dirty_minute_once")]

    def __str__(self) -> str:
        return f"{self.host_id} {self.minute_ms}"
