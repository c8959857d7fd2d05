"""What happened to hosts and devices; an alert is an event with a rule."""

from django.db import models

from fleet.models.inventory import Device, Host


class EventKind(models.TextChoices):
    """What may happen to a host or a device that people should see."""

    XID = "xid", "XID error"
    CLOCK = "clock", "clock change"
    DRIVER_RELEASED = "driver_released", "driver let go"
    DRIVER_RESUMED = "driver_resumed", "driver taken up"
    SOFTWARE_CHANGED = "software_changed", "software changed"
    CLOCK_WRONG = "clock_wrong", "clock ahead of the server's"
    DEVICE_MOVED = "device_moved", "device moved to another host"
    DEVICE_CLAIMED = "device_claimed", "device claimed by a second host"
    HOST_JOINED = "host_joined", "host joined"
    HOST_REMOVED = "host_removed", "host removed"
    KEY_ROTATED = "key_rotated", "key rotated"
    FOREIGN_MESSAGE = "foreign_message", "message of an unknown host refused"
    FORGED_MESSAGE = "forged_message", "message with a wrong signature refused"
    REPLAYED_MESSAGE = "replayed_message", "message repeated"
    FORGED_ORDER = "forged_order", "order with a wrong signature refused by the host"
    REPLAYED_ORDER = "replayed_order", "order repeated, refused by the host"
    ORDER_REFUSED = "order_refused", "order that the host cannot obey"
    CLONED_KEY = "cloned_key", "two agents use one key"
    CLONED_MACHINE = "cloned_machine", "two hosts have one machine id"
    JOIN_REFUSED = "join_refused", "join refused"
    HEALTH = "health", "alert"
    DISK_LIMIT = "disk_limit", "disk limit"


class Severity(models.TextChoices):
    INFO = "info", "info"
    WARNING = "warning", "warning"
    CRITICAL = "critical", "critical"


class Event(models.Model):
    """Something that happened, `count` times between `first_at` and `last_at`. Written by fleet/inventory/events.py.

    An alert is an event with a `rule`: it is open until `resolved_at`, and one rule has one open alert a `subject`
    ("host:<name>", "device:<uuid>", "fleet"). Of one about several hosts together `hosts` names each, and `host` is None.
    Written by telemetry/health.
    """

    kind = models.CharField(max_length=20, choices=EventKind.choices)
    severity = models.CharField(max_length=8, choices=Severity.choices)
    host = models.ForeignKey(Host, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    device = models.ForeignKey(Device, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    hosts = models.ManyToManyField(Host, related_name="+", blank=True)
    code = models.BigIntegerField(null=True, blank=True, help_text="The XID, or the clock event reasons' bit mask.")
    text = models.CharField(max_length=500)
    detail = models.JSONField(default=dict, blank=True)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField(db_index=True)
    count = models.PositiveBigIntegerField(default=1)
    rule = models.CharField(max_length=60, blank=True, default="")
    subject = models.CharField(max_length=200, blank=True, default="")
    resolved_at = models.DateTimeField(null=True, blank=True)
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    acknowledged_by = models.CharField(max_length=150, blank=True, default="")

    class Meta:
        ordering = ["-last_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["rule", "subject"],
                condition=models.Q(resolved_at=None) & ~models.Q(rule=""),
                name="one_open_alert",
            )
        ]
        indexes = [
            models.Index(fields=["host", "last_at"], name="event_by_host"),
            models.Index(fields=["device", "last_at"], name="event_by_device"),
            models.Index(fields=["rule", "resolved_at"], name="event_by_rule"),  # the open alerts, each few seconds
        ]

    def __str__(self) -> str:
        return f"{self.first_at:%F %T} {self.kind} {self.text}"
