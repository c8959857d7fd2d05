"""What the fleet has: hosts, and the devices in them."""

from datetime import datetime
from typing import TypeVar

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models
from django.utils import timezone

from fleet.units import UNKNOWN

HOST_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"


_Row = TypeVar("_Row", bound=models.Model)


class Present(models.Manager[_Row]):
    """Rows but for those of hosts that were removed, which are there until all that hangs on them is gone (removal.py)."""

    def get_queryset(self) -> models.QuerySet[_Row]:
        return super().get_queryset().filter(removed_at=None)


class Origin(models.TextChoices):
    REAL = "real", "real"
    SIMULATED = "simulated", "simulated"
    IMPORTED = "imported", "imported"


class Host(models.Model):
    """A machine whose agent reports, or whose recorded telemetry was imported."""

    name = models.CharField(max_length=63, unique=True, validators=[RegexValidator(HOST_NAME_PATTERN)])
    cluster = models.CharField(max_length=63, blank=True, default="")
    labels = models.JSONField(default=dict, blank=True)
    origin = models.CharField(max_length=9, choices=Origin.choices, default=Origin.REAL)
    software = models.JSONField(default=dict, blank=True, help_text="What the agent found: {name: version}.")
    topology = models.JSONField(
        default=dict,
        blank=True,
        help_text="How its devices are joined: {links: [[uuid, uuid, way]], numa: {uuid: node}}.",
    )
    public_key = models.BinaryField(
        default=b"",
        blank=True,
        help_text="The agent's Ed25519 key, 32 bytes; empty before it joined.",
    )
    earlier_keys = models.JSONField(
        default=list,
        blank=True,
        help_text="The keys that it rotated away from, newest first: [{key: hex, replaced_ms}]; joining clears them.",
    )
    key_used_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="When the first message under its present key came after a rotation: its agent has that key.",
    )
    machine = models.CharField(
        max_length=32,
        blank=True,
        default="",
        help_text="Digest of the machine's id, as its agent told it when it joined.",
    )
    joined_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    last_seen_at = models.DateTimeField(
        null=True, blank=True, help_text="When the newest sample was taken, by the host's clock."
    )
    heard_at = models.DateTimeField(
        null=True, blank=True, help_text="When its newest batch was stored, by the server's clock."
    )
    removed_at = models.DateTimeField(
        null=True, blank=True, help_text="Since when it is none any more; what it measured goes a slice at a time."
    )

    objects = Present()
    every = models.Manager()  # noqa: DJ012 — the first one is the default

    class Meta:
        ordering = ["name"]
        constraints = [
            # Two joins at the same moment cannot both see that a key is free. Virtual hosts may share theirs.
            models.UniqueConstraint(
                fields=["public_key"],
                condition=models.Q(origin=Origin.REAL) & ~models.Q(public_key=b""),
                name="key_of_one_host",
            )
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def has_reported(self) -> bool:
        """Tell whether any telemetry of the host was ever stored."""
        return self.heard_at is not None or self.last_seen_at is not None

    def is_silent(self, now: datetime) -> bool:
        return has_gone_silent(self.origin, self.heard_at, now)


def has_gone_silent(origin: str, heard_at: datetime | None, now: datetime) -> bool:
    """Tell whether a host that should report has not done so for `STEPWATT_SILENT_SECONDS`, wherever its clock stands."""
    if origin == Origin.IMPORTED:
        return False
    return heard_at is None or (now - heard_at).total_seconds() > settings.STEPWATT_SILENT_SECONDS


class DeviceKind(models.TextChoices):
    NVIDIA = "nvidia", "GPU"
    AMD = "amd", "GPU"
    TPU = "tpu", "TPU"
    CPU = "cpu", "CPU"
    NODE = "node", "node"


ACCELERATORS = (DeviceKind.NVIDIA, DeviceKind.AMD, DeviceKind.TPU)


def shown_index(index: int | None) -> str:
    return UNKNOWN if index is None else str(index)


def in_place(index: int | None) -> tuple[bool, int]:
    """Return what devices of one kind sort by: those whose index is not known stand last."""
    return index is None, index or 0


class Device(models.Model):
    """One device of a host. Its identity is the UUID; its index is only shown.

    A MIG instance is a device whose `parent` is the GPU that it is a part of, with `profile` such as "1g.10gb".
    """

    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="devices")
    uuid = models.CharField(max_length=96, unique=True)
    kind = models.CharField(max_length=6, choices=DeviceKind.choices)
    index = models.PositiveIntegerField(null=True, help_text="None where a recording does not tell it.")
    model = models.CharField(max_length=500, blank=True, default="")
    pci_bus_id = models.CharField(max_length=32, blank=True, default="")
    driver_version = models.CharField(max_length=100, blank=True, default="")
    parent = models.ForeignKey("self", on_delete=models.CASCADE, null=True, blank=True, related_name="instances")
    profile = models.CharField(max_length=40, blank=True, default="")
    moved_ms = models.BigIntegerField(
        null=True,
        help_text="From when on it is with its host, UTC milliseconds; None where it was with no other before.",
    )
    created_at = models.DateTimeField(default=timezone.now)
    removed_at = models.DateTimeField(null=True, blank=True, help_text="As its host's.")

    objects = Present()
    every = models.Manager()  # noqa: DJ012 — the first one is the default

    class Meta:
        ordering = ["host", "kind", "index"]

    def __str__(self) -> str:
        return f"{self.host.name} {self.title}"

    @property
    def title(self) -> str:
        return title_of(self.kind, self.index, self.profile)

    @property
    def is_accelerator(self) -> bool:
        return self.kind in ACCELERATORS


class DeviceStay(models.Model):
    """From when on a device was with a host, until its next stay begins; of devices alone that were with several.

    What a host says of a device counts for the time of its stays. The first one is from 0 on. Kept by telemetry.receiving.
    """

    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="stays", db_index=False)
    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="+")
    from_ms = models.BigIntegerField(help_text="UTC milliseconds.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["device", "from_ms"], name="stay_once")]

    def __str__(self) -> str:
        return f"{self.device_id} with {self.host_id} from {self.from_ms}"


def title_of(kind: str, index: int | None, profile: str) -> str:
    """Return what a device is called beside its host's name."""
    shown = shown_index(index)
    return f"MIG {shown} ({profile})" if profile else f"{DeviceKind(kind).label} {shown}"
