"""What people set about alerts: thresholds, silences, where to tell, and what was told. The alerts are fleet.models.Event."""

from django.db import models
from django.utils import timezone

from fleet.models import Event, Host, Severity


class RuleThreshold(models.Model):
    """A threshold of a health rule that differs from the rule's own (health/rules.py)."""

    rule = models.CharField(max_length=60)
    name = models.CharField(max_length=110, help_text="The threshold's name; of a cluster alone <name>:<cluster>.")
    value = models.FloatField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["rule", "name"], name="threshold_once")]

    def __str__(self) -> str:
        return f"{self.rule} {self.name} {self.value:g}"


class HealthMemory(models.Model):
    """What the watch over alerts must know again after a restart (health/memory.py): "host:<name>", or "fleet"."""

    scope = models.CharField(max_length=80, primary_key=True)
    body = models.JSONField(default=dict)

    def __str__(self) -> str:
        return self.scope


class Silence(models.Model):
    """Nobody is told of matching alerts until `ends_at`. What is "" or None matches everything."""

    rule = models.CharField(max_length=60, blank=True, default="")
    host = models.ForeignKey(Host, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    label_key = models.CharField(max_length=63, blank=True, default="")
    label_value = models.CharField(max_length=500, blank=True, default="")
    comment = models.CharField(max_length=500)
    created_by = models.CharField(max_length=150)
    created_at = models.DateTimeField(default=timezone.now)
    starts_at = models.DateTimeField(default=timezone.now)
    ends_at = models.DateTimeField(db_index=True)

    class Meta:
        ordering = ["-ends_at", "-pk"]

    def __str__(self) -> str:
        return f"{self.comment} until {self.ends_at:%F %T}"


class TargetKind(models.TextChoices):
    WEBHOOK = "webhook", "webhook"
    EMAIL = "email", "e-mail"


class NotificationTarget(models.Model):
    """Where alerts of at least `severity` are told: a URL, or e-mail addresses with commas between them."""

    name = models.CharField(max_length=100, unique=True)
    kind = models.CharField(max_length=7, choices=TargetKind.choices)
    address = models.CharField(max_length=1000)
    secret = models.CharField(max_length=200, blank=True, default="", help_text="Signs a webhook's body (HMAC-SHA256).")
    severity = models.CharField(max_length=8, choices=Severity.choices, default=Severity.WARNING)
    is_enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class DeliveryReason(models.TextChoices):
    FIRING = "firing", "firing"
    RESOLVED = "resolved", "resolved"


class Delivery(models.Model):
    """One alert to be told to one target: tried until it is delivered or given up. Kept as the log of what was told."""

    target = models.ForeignKey(NotificationTarget, on_delete=models.CASCADE, related_name="deliveries")
    event = models.ForeignKey(Event, on_delete=models.CASCADE, related_name="+")
    reason = models.CharField(max_length=8, choices=DeliveryReason.choices)
    created_at = models.DateTimeField(default=timezone.now)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(
        null=True, blank=True, db_index=True, help_text="None: delivered or given up."
    )
    delivered_at = models.DateTimeField(null=True, blank=True)
    error = models.CharField(max_length=500, blank=True, default="", help_text="Of the last attempt that failed.")

    class Meta:
        ordering = ["-created_at", "-pk"]
        constraints = [models.UniqueConstraint(fields=["target", "event", "reason"], name="delivery_once")]

    def __str__(self) -> str:
        return f"{self.event_id} {self.reason} to {self.target_id}"
