"""Writing the audit log, and who may stand in it. Called inside the transaction of the deed that it records."""

import getpass
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fleet.models import AuditEntry

COMMAND = "command:"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks: a user's name, `token:<name>` or `command:<os user>`, and the address where it came over HTTP."""

    name: str
    address: str | None = None

    @classmethod
    def of_command(cls) -> "Actor":
        """Return the person at the command line, by the operating system's user name."""
        return cls(f"{COMMAND}{getpass.getuser()}")


def record(actor: str, action: str, subject: str, detail: dict[str, Any], address: str | None = None) -> None:
    """Note who did what to what; `action` is `<thing>.<verb>`, such as `reference.launch`."""
    AuditEntry.objects.create(actor=actor, action=action, subject=subject, detail=detail, address=address)


def record_each(actor: Actor, action: str, deeds: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Note one action on many subjects, each with its detail, in one statement."""
    entries = [
        AuditEntry(actor=actor.name, action=action, subject=subject, detail=detail, address=actor.address)
        for subject, detail in deeds
    ]
    AuditEntry.objects.bulk_create(entries)
