"""Who may do what, and who did what: tokens of hosts and of scripts, roles, the audit log, tries to get in."""

from django.db import models
from django.utils import timezone

from fleet.models.inventory import Host


class EnrolmentToken(models.Model):
    """The one-time token with which a machine's agent joins as `host`; only its digest is stored (fleet/joining/enrolment.py)."""

    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="+")
    digest = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"token for {self.host_id} of {self.created_at:%F %T}"


class Role(models.TextChoices):
    """What a person or token may do; each role includes the one before it."""

    VIEWER = "viewer", "viewer"
    OPERATOR = "operator", "operator"
    ADMIN = "admin", "admin"


class ApiToken(models.Model):
    """A bearer token for scripts; only its digest is stored (fleet/access/auth.py)."""

    name = models.CharField(max_length=100, unique=True)
    role = models.CharField(max_length=8, choices=Role.choices)
    digest = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(default=timezone.now)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class AuditEntry(models.Model):
    """Who did what to what. Written in the transaction of the deed; never changed."""

    at = models.DateTimeField(default=timezone.now, db_index=True)
    actor = models.CharField(max_length=150, help_text="User name, token:<name>, or command:<user>.")
    action = models.CharField(max_length=50)
    subject = models.CharField(max_length=200)
    detail = models.JSONField(default=dict, blank=True)
    address = models.GenericIPAddressField(null=True, blank=True)

    class Meta:
        ordering = ["-at"]
        verbose_name_plural = "audit entries"

    def __str__(self) -> str:
        return f"{self.at:%F %T} {self.actor} {self.action} {self.subject}"


class LoginAttempt(models.Model):
    """A sign-in that failed, or is being tried, kept as long as the throttle looks back (fleet/access/throttle.py)."""

    at = models.DateTimeField(default=timezone.now, db_index=True)
    address = models.GenericIPAddressField(null=True, blank=True)
    username = models.CharField(max_length=150)

    class Meta:
        indexes = [models.Index(fields=["username", "at"], name="login_attempt_by_name")]

    def __str__(self) -> str:
        return f"{self.username} {self.at:%F %T}"


class JoinAttempt(models.Model):
    """A refused join, kept as long as the throttle looks back (fleet/access/throttle.py)."""

    at = models.DateTimeField(default=timezone.now, db_index=True)
    address = models.GenericIPAddressField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.address} {self.at:%F %T}"
