"""The bottom layer of the models: the inventory, what happened to it, and who may do what."""

from fleet.models.access import ApiToken, AuditEntry, EnrolmentToken, JoinAttempt, LoginAttempt, Role
from fleet.models.events import Event, EventKind, Severity
from fleet.models.inventory import (
    ACCELERATORS,
    HOST_NAME_PATTERN,
    Device,
    DeviceKind,
    DeviceStay,
    Host,
    Origin,
    has_gone_silent,
    in_place,
    shown_index,
    title_of,
)

__all__ = [
    "ACCELERATORS", "HOST_NAME_PATTERN", "ApiToken", "AuditEntry", "Device", "DeviceKind", "DeviceStay", "EnrolmentToken",
    "Event", "EventKind", "Host", "JoinAttempt", "LoginAttempt", "Origin", "Role", "Severity", "has_gone_silent", "in_place",
    "shown_index", "title_of",
]  # fmt: skip
