"""Telling hosts which of their batches are stored: signed orders, by which the agents empty their spools. Called by beat's task.

A batch that was told stored is committed: what is not, cannot be read here.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from django.db import transaction
from django.db.models import F, Q

from fleet.models import Origin
from telemetry.message.acknowledgement import ACKNOWLEDGE_TASK, Acknowledgement, pack
from telemetry.models import AcceptedSequences
from telemetry.orders import host_orders

EVERY = timedelta(seconds=15)  # to one host; an agent that hears nothing for twice as long sends again
_EXPIRE_AFTER = timedelta(minutes=5)  # by then another one was sent
_AT_ONCE = 100  # in one transaction


def send_due(now: datetime) -> int:
    """Send what hosts have not been told yet, at most once to each in 15 s; returns how many were sent.

    `acknowledged_at` becomes the `changed_at` that was told, not the time of telling: a group of batches that was begun
    before and is committed afterwards differs from it, and is told next time. One that lies well ahead was told before the
    server's clock was set back; nearer ones may be another machine's clock.
    """
    is_time = Q(acknowledged_at__lte=now - EVERY) | Q(acknowledged_at__gt=now + EVERY)
    due = AcceptedSequences.objects.filter(Q(acknowledged_at=None) | (~Q(acknowledged_at=F("changed_at")) & is_time))
    rows = list(due.exclude(host__origin=Origin.IMPORTED).select_related("host").order_by("pk"))
    n_sent = 0
    for first in range(0, len(rows), _AT_ONCE):
        claimed = _claim(rows[first : first + _AT_ONCE])
        for place, row in enumerate(claimed):
            if not _send(row, now):
                _give_back(claimed[place:])
                return n_sent
            n_sent += 1
    return n_sent


@transaction.atomic
def _claim(rows: Sequence[AcceptedSequences]) -> list[AcceptedSequences]:
    """Return those that nobody else tells at the same moment."""
    return [
        row
        for row in rows
        if AcceptedSequences.objects.filter(pk=row.pk, acknowledged_at=row.acknowledged_at).update(
            acknowledged_at=row.changed_at
        )
    ]


@transaction.atomic
def _give_back(rows: Sequence[AcceptedSequences]) -> None:
    for row in rows:
        claimed = AcceptedSequences.objects.filter(pk=row.pk, acknowledged_at=row.changed_at)
        claimed.update(acknowledged_at=row.acknowledged_at)


def _send(row: AcceptedSequences, now: datetime) -> bool:
    told = Acknowledgement(
        epoch=row.epoch,
        ranges=[(first, last) for first, last in row.ranges],
        sent_ms=row.newest_sent_ms,
        received_ms=row.newest_received_ms,
        server_ms=round(datetime.now(UTC).timestamp() * 1000),  # of a thousand hosts the last is told seconds later
    )
    return host_orders.send(ACKNOWLEDGE_TASK, row.host, pack(told), now + _EXPIRE_AFTER)
