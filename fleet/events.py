"""Recording what happened to hosts and devices, so that people see it. Called by enrolment, ingest and the order desk.

Equal events close in time are one row with a count: a fault that repeats each second must not bury the others.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Greatest, Least

from fleet.models import Device, Event, EventKind, Host, Severity

MERGE_WITHIN = timedelta(minutes=10)

_CRITICAL = {EventKind.XID, EventKind.FORGED_MESSAGE, EventKind.FORGED_ORDER, EventKind.CLONED_KEY}
_WARNING = {
    EventKind.FOREIGN_MESSAGE,
    EventKind.REPLAYED_MESSAGE,
    EventKind.REPLAYED_ORDER,
    EventKind.CLONED_MACHINE,
    EventKind.JOIN_REFUSED,
}


def severity_of(kind: EventKind) -> Severity:
    return Severity.CRITICAL if kind in _CRITICAL else Severity.WARNING if kind in _WARNING else Severity.INFO


@transaction.atomic
def record(
    kind: EventKind, at: datetime, text: str, *, host: Host | None = None, device: Device | None = None,
    code: int | None = None, count: int = 1, detail: Mapping[str, Any] | None = None, severity: Severity | None = None,
) -> None:  # fmt: skip
    """Record `count` events at `at`; they join an equal one (kind, host, device, code) of the last ten minutes.

    `severity` is given where the code says more than the kind.
    """
    equal = Event.objects.filter(kind=kind, host=host, device=device, code=code)
    near = equal.filter(first_at__lte=at + MERGE_WITHIN, last_at__gte=at - MERGE_WITHIN).order_by("-last_at")
    newest = near.values_list("pk", flat=True).first()
    joined = newest is not None and Event.objects.filter(pk=newest).update(
        count=F("count") + count, first_at=Least("first_at", at), last_at=Greatest("last_at", at),
        text=text[:500], detail=dict(detail or {}),
    )  # fmt: skip
    if not joined:
        Event.objects.create(
            kind=kind, severity=severity or severity_of(kind), host=host, device=device, code=code, text=text[:500],
            detail=dict(detail or {}), first_at=at, last_at=at, count=count,
        )  # fmt: skip
