"""Recording what happened to hosts and devices, so that people see it. Called by enrolment, ingest and the order desk.

Equal events close in time are one row with a count: a fault that repeats each second must not bury the others.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Greatest, Least

from fleet.models import Device, Event, EventKind, Host, Severity

MERGE_WITHIN = timedelta(minutes=10)
_LONGEST = timedelta(hours=1)  # of one row: what goes on for days is told again each hour, and can be told apart
_NAMES_KEPT, _NAMES_SHOWN = 20, 3
# What stands in the text of these is the event itself: another text is another event.
_ONE_TEXT = {
    EventKind.SOFTWARE_CHANGED,
    EventKind.DEVICE_MOVED,
    EventKind.DEVICE_CLAIMED,
    EventKind.HOST_JOINED,
    EventKind.HOST_REMOVED,
    EventKind.CLONED_KEY,
    EventKind.CLONED_MACHINE,
}

_CRITICAL = {EventKind.XID, EventKind.FORGED_MESSAGE, EventKind.FORGED_ORDER, EventKind.CLONED_KEY}
_WARNING = {
    EventKind.FOREIGN_MESSAGE,
    EventKind.REPLAYED_MESSAGE,
    EventKind.REPLAYED_ORDER,
    EventKind.ORDER_REFUSED,
    EventKind.CLONED_MACHINE,
    EventKind.CLOCK_WRONG,
    EventKind.DEVICE_MOVED,
    EventKind.DEVICE_CLAIMED,
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

    Where the text is what happened, it must be equal too. Messages under foreign names are one event, which names up to
    twenty of them (`detail["host"]`). `severity` is given where the code says more than the kind.
    """
    detail = dict(detail or {})
    near = _near(Event.objects.filter(kind=kind, host=host, device=device, code=code), at)
    if kind in _ONE_TEXT:
        near = near.filter(text=text[:500])
    elif kind == EventKind.FOREIGN_MESSAGE:
        near = near.filter(detail__task=detail.get("task"))
    newest = near.first()
    if newest is not None and kind == EventKind.FOREIGN_MESSAGE:
        text, detail = _with_names(newest, text, detail)
    joined = newest is not None and Event.objects.filter(pk=newest.pk).update(
        count=F("count") + count, first_at=Least("first_at", at), last_at=Greatest("last_at", at),
        text=text[:500], detail=detail,
    )  # fmt: skip
    if not joined:
        Event.objects.create(
            kind=kind, severity=severity or severity_of(kind), host=host, device=device, code=code, text=text[:500],
            detail=detail, first_at=at, last_at=at, count=count,
        )  # fmt: skip


def _near(events: QuerySet[Event], at: datetime) -> QuerySet[Event]:
    """Return those that one at `at` may join, newest first."""
    close = events.filter(first_at__lte=at + MERGE_WITHIN, last_at__gte=at - MERGE_WITHIN)
    return close.filter(first_at__gt=at - _LONGEST, last_at__lt=at + _LONGEST).order_by("-last_at")


def _with_names(newest: Event, text: str, detail: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return text and detail of a message that joins `newest`: anybody may send under any number of names."""
    names = newest.detail.get("hosts") or [newest.detail.get("host", "")]
    name = detail.get("host", "")
    is_full = newest.detail.get("has_more", False)
    if name not in names:
        names, is_full = (names, True) if len(names) >= _NAMES_KEPT else ([*names, name], is_full)
    if len(names) == 1:
        return text, detail
    others = len(names) - _NAMES_SHOWN
    shown = ", ".join(names[:_NAMES_SHOWN]) + (
        f" and {others}{' or more' if is_full else ''} others" if others > 0 else ""
    )
    more = {"has_more": True} if is_full else {}
    return f"messages under the names {shown} were refused", detail | {"hosts": names} | more
