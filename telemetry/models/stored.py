"""Samples as they are stored: batches as they came, chunks made of them, the newest readings, and what was accepted."""

from hashlib import sha256

from django.db import models
from django.utils import timezone

from fleet.models import Device, Host
from telemetry.models.fast_json import FastJSONField, JSONTextField


class StoredBatch(models.Model):
    """One accepted batch as it came, until it is compacted into chunks. What was accepted before, AcceptedSequences knows."""

    # The time is part of the key, because PostgreSQL's partitions are by time.
    pk = models.CompositePrimaryKey("host_id", "start_ms", "epoch", "sequence")
    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="+", db_index=False)
    start_ms = models.BigIntegerField()
    epoch = models.CharField(max_length=32)
    sequence = models.BigIntegerField()
    end_ms = models.BigIntegerField()
    body = models.BinaryField()

    def __str__(self) -> str:
        return f"{self.host_id}/{self.epoch}/{self.sequence}"


class Chunk(models.Model):
    """All samples of one device over one hour, made of batches; made again where more come (store/compact.py).

    Of an hour in which the device moved it holds what each host said in its time, under the last of them.
    """

    pk = models.CompositePrimaryKey("device_id", "start_ms")
    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="+", db_index=False)
    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="+", db_index=False)
    start_ms = models.BigIntegerField(help_text="The hour's beginning, UTC milliseconds.")
    end_ms = models.BigIntegerField(help_text="The newest sample.")
    n_values = models.PositiveIntegerField()
    body = models.BinaryField()

    class Meta:
        indexes = [models.Index(fields=["host", "start_ms"], name="chunk_by_host")]  # a host's page, its removal

    def __str__(self) -> str:
        return f"{self.device_id} {self.start_ms}"


class AcceptedSequences(models.Model):
    """Which batches of one epoch of a host's spool were accepted, for ever: written in the same transaction as the batches.

    `ranges` are [[first, last], …], ascending and apart. `newest_…` speak of the batch with the greatest sequence: it is
    what an acknowledgement tells the agent's clock (store/sequences.py).
    """

    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="+")
    epoch = models.CharField(max_length=32)
    ranges = FastJSONField(default=list)
    newest_sequence = models.BigIntegerField(default=-1)
    newest_sent_ms = models.BigIntegerField(default=0, help_text="By the host's clock.")
    newest_received_ms = models.BigIntegerField(default=0, help_text="By the server's clock.")
    changed_at = models.DateTimeField(db_index=True)
    acknowledged_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["host", "epoch"], name="sequences_once")]

    def __str__(self) -> str:
        return f"{self.host_id}/{self.epoch}"


class SetAside(models.Model):
    """A batch that was accepted and kept, but is no part of any figure, with the reason why.

    Several may have one number: two machines send with one key, or a spool was restored from a copy.
    """

    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="+")
    epoch = models.CharField(max_length=32)
    sequence = models.BigIntegerField()
    start_ms = models.BigIntegerField()
    end_ms = models.BigIntegerField()
    n_values = models.PositiveIntegerField()
    reason = models.CharField(max_length=200)
    received_at = models.DateTimeField(db_index=True)
    body = models.BinaryField()
    digest = models.CharField(max_length=64, default="", help_text="Of the body: digest_of.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["host", "epoch", "sequence", "digest"], name="set_aside_once")]

    def __str__(self) -> str:
        return f"{self.host_id}/{self.epoch}/{self.sequence}: {self.reason}"

    @staticmethod
    def digest_of(body: bytes) -> str:
        """Return the SHA-256 in hexadecimal digits."""
        return sha256(body).hexdigest()


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
    devices = JSONTextField()
    processes = JSONTextField(default=dict)
    epoch = models.CharField(max_length=32, default="")
    epoch_began_ms = models.BigIntegerField(default=0)
    sequence = models.BigIntegerField(default=-1)
    software_ms = models.BigIntegerField(default=0)
    topology_ms = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.host_id} at {self.at_ms}"


class TableFigures(models.Model):
    """What a table of the store held when it was last counted: the counting reads all of it, too long for a page."""

    table = models.CharField(max_length=60, primary_key=True)
    n_rows = models.PositiveBigIntegerField()
    n_bytes = models.PositiveBigIntegerField()
    oldest_ms = models.BigIntegerField(null=True)
    counted_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.table}: {self.n_rows} rows"


class Shortened(models.Model):
    """Up to when rows of a table went before their time, because of the disk limit; no row where none did."""

    table = models.CharField(max_length=60, primary_key=True)
    before_ms = models.BigIntegerField()

    def __str__(self) -> str:
        return f"{self.table} before {self.before_ms}"


class Unreadable(models.Model):
    """Samples that are stored and cannot be read: of the device `uuid`, or of a batch, where it is "": then of any of the host's.

    Written by store/unreadable.py. It outlives what it names, as figures do that were made without.
    """

    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="+")
    uuid = models.CharField(max_length=96, blank=True, default="")
    start_ms = models.BigIntegerField()
    end_ms = models.BigIntegerField()
    what = models.CharField(max_length=200)
    found_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["host", "uuid", "start_ms"], name="unreadable_once")]

    def __str__(self) -> str:
        return f"{self.host_id} {self.uuid} from {self.start_ms}: {self.what}"


class MaintenanceRun(models.Model):
    """The last run of one kind of upkeep (compaction, retention, …), one row a kind: what the settings page shows."""

    name = models.CharField(max_length=40, primary_key=True)
    started_at = models.DateTimeField(default=timezone.now)
    seconds = models.FloatField(default=0)
    done = models.PositiveBigIntegerField(default=0, help_text="Rows made or removed by that run.")
    note = models.CharField(max_length=500, blank=True, default="")

    def __str__(self) -> str:
        return f"{self.name} {self.started_at:%F %T}"
