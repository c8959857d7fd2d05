"""Sending what is due: claimed, sent, and marked, or tried again later. The rows are the log of what was told.

A process that is killed after sending and before marking sends again: alerts come at least once.
"""

import logging
import time
from datetime import datetime, timedelta

from django.db.models import F

from fleet.turns import Turns
from telemetry.models import Delivery, NotificationTarget
from telemetry.notify import due
from telemetry.notify.send import SendFailed, send

logger = logging.getLogger(__name__)

AT_ONCE = 100  # alerts in one message
PAUSES = tuple(timedelta(seconds=seconds) for seconds in (10, 30, 120, 600, 1800, 3600, 3600, 10_800, 21_600, 43_200))
_LEASE = timedelta(minutes=2)  # longer than any sending takes: nobody else sends it meanwhile


def deliver(now: datetime) -> int:
    """Note what is due, and send it; returns how many alerts were told."""
    due.note_due(now)
    targets = NotificationTarget.objects.filter(deliveries__next_attempt_at__lte=now).distinct()
    turns, begun = Turns[str]("telling alerts to"), time.monotonic()
    for target in targets:
        with turns.of(target.name):
            # A lease begins with its sending: the targets before may have taken their time to answer nothing.
            lease_ends = now + timedelta(seconds=time.monotonic() - begun) + _LEASE
            turns.done += _deliver_to(target, now, lease_ends)
    return turns.end()


def _deliver_to(target: NotificationTarget, now: datetime, lease_ends: datetime) -> int:
    waiting = target.deliveries.filter(next_attempt_at__lte=now).order_by("created_at", "pk")
    ids = list(waiting.values_list("pk", flat=True)[:AT_ONCE])
    if not ids:
        return 0  # another worker has told them since the targets were looked up
    claimed = Delivery.objects.filter(pk__in=ids, next_attempt_at__lte=now)
    if claimed.update(next_attempt_at=lease_ends, attempts=F("attempts") + 1) != len(ids):
        return 0  # another worker has some of them: what this one took comes again when the lease ends
    found = list(Delivery.objects.filter(pk__in=ids).select_related("event__host", "event__device__host"))
    try:
        send(target, found)
    except SendFailed as error:
        logger.warning("%d alerts could not be told to %s: %s", len(found), target.name, error)
        for each in found:
            _note_failure(each, str(error), now)
        return 0
    return Delivery.objects.filter(pk__in=ids).update(delivered_at=now, next_attempt_at=None, error="")


def _note_failure(delivery: Delivery, error: str, now: datetime) -> None:
    """The last failure of all leaves no next attempt: the log then says so."""
    pause = PAUSES[delivery.attempts - 1] if delivery.attempts <= len(PAUSES) else None
    Delivery.objects.filter(pk=delivery.pk).update(
        next_attempt_at=now + pause if pause else None, error=error[:500] if pause else f"given up: {error}"[:500]
    )
