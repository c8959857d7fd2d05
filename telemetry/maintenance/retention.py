"""Retention by age and by the disk limit, in slices: safe to kill at any moment, and repeated from beat.

Imported hosts hold history and are never retired by age. Events live as long as the minute rollups, open alerts until they
are resolved, people's sessions until they end; which batches were accepted is known for ever.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import connection
from django.db.models import BigIntegerField, ExpressionWrapper, F, Q, QuerySet
from django.db.models.functions import Cast, Length

from fleet import slices
from fleet.models import Event, Origin
from telemetry.models import Delivery, DirtyRollup, GroupRollup, SetAside, Unreadable
from telemetry.store import partitions
from telemetry.store.partitions import Partitioned

SET_ASIDE_KEPT = timedelta(days=30)  # at least: people are to notice a wrong clock, and to take back what it refused
_SLICE = 500
_DAY_MS = 86_400_000
_REACH_MS = 3_600_000  # before a bucket begins: what the growth of its counters and the idle time in it begin from
# The step of the statistics that are made of a table's rows.
_MADE_OF = {
    partitions.BATCHES: 60, partitions.CHUNKS: 60, partitions.ROLLUPS[60]: 900, partitions.ROLLUPS[900]: 3600,
}  # fmt: skip
_GROUPS_SLICE = 100  # rows, each named by four columns

_Rows = QuerySet[Event] | QuerySet[SetAside] | QuerySet[Delivery] | QuerySet[Session] | QuerySet[Unreadable]


def ages() -> dict[Partitioned, int]:
    """Return how many seconds each table's rows are kept."""
    rollups = partitions.ROLLUPS
    return {
        partitions.BATCHES: settings.STEPWATT_RETENTION_RAW,
        partitions.CHUNKS: settings.STEPWATT_RETENTION_RAW,
        rollups[60]: settings.STEPWATT_RETENTION_1M,
        rollups[900]: settings.STEPWATT_RETENTION_15M,
        rollups[3600]: settings.STEPWATT_RETENTION_1H,
    }


def retire(now: datetime, deadline: float) -> int:
    """Delete what is older than its retention until `deadline` (time.monotonic); returns the rows and partitions that went."""
    gone = 0
    for partitioned, seconds in ages().items():
        gone += retire_before(partitioned, milliseconds(now - timedelta(seconds=seconds)), deadline)
    for rows in _small(now):
        while time.monotonic() < deadline and (deleted := _delete_some(rows)):
            gone += deleted
    return gone + partitions.drop_emptied(partitions.BATCHES, milliseconds(now - timedelta(days=2)))


def retire_before(partitioned: Partitioned, before_ms: int, deadline: float) -> int:
    """Delete what ends before the time, but for imported hosts'; returns the rows and partitions that went.

    What statistics are still to be made of stays for a day longer: no more, as a mark that cannot be made must not hold the disk.
    """
    before_ms = max(min(before_ms, _waited_for(partitioned, before_ms)), before_ms - _DAY_MS)
    gone = partitions.drop_older(partitioned, before_ms)
    while time.monotonic() < deadline and (
        deleted := partitions.delete_older(partitioned, before_ms, _SLICE, slices.MOST_BYTES)
    ):
        gone += deleted
    return gone


def _waited_for(partitioned: Partitioned, before_ms: int) -> int:
    """Return from when on rows are waited for by the statistics that are made of them; `before_ms` where none are."""
    step = _MADE_OF.get(partitioned)
    if step is None:
        return before_ms
    marks = DirtyRollup.objects.filter(step_seconds=step, start_ms__lt=before_ms + _REACH_MS)
    live = marks.exclude(host__origin=Origin.IMPORTED).order_by("start_ms").values_list("start_ms", flat=True)
    oldest = live.first()
    return before_ms if oldest is None else oldest - _REACH_MS


def milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _small(now: datetime) -> Iterator[_Rows]:
    """Yield the rows of the smaller tables that are too old."""
    before = now - timedelta(seconds=settings.STEPWATT_RETENTION_1M)
    of_hosts = Q(host=None) | ~Q(host__origin=Origin.IMPORTED)
    yield Event.objects.filter(of_hosts, last_at__lt=before).exclude(~Q(rule="") & Q(resolved_at=None)).order_by("pk")
    # Of an alert that is open, they tell who has heard of it: without them it would be told again, and its end never.
    yield Delivery.objects.filter(created_at__lt=before, next_attempt_at=None, event__resolved_at__lt=before).order_by(
        "pk"
    )
    yield _set_aside(now)
    yield Session.objects.filter(expire_date__lt=now).order_by("pk")  # Django itself leaves those that have ended
    # As long as hours are kept that may have been made without it.
    before_ms = milliseconds(now - timedelta(seconds=settings.STEPWATT_RETENTION_1H))
    yield Unreadable.objects.filter(of_hosts, end_ms__lt=before_ms).order_by("pk")


def _set_aside(now: datetime) -> QuerySet[SetAside]:
    """Return what was set aside for long, by the server's clock of then and by the samples' own times.

    What a slow clock of the server refused is years old by that clock once it is right again; its samples are not. Times
    that are still ahead say nothing.
    """
    before = now - max(timedelta(seconds=settings.STEPWATT_RETENTION_RAW), SET_ASIDE_KEPT)
    is_young = Q(end_ms__gte=milliseconds(before), end_ms__lte=milliseconds(now))
    return SetAside.objects.filter(received_at__lt=before).exclude(is_young).order_by("pk")


def _delete_some(rows: _Rows) -> int:
    model = rows.model
    return int(model.objects.filter(pk__in=list(rows.values_list("pk", flat=True)[:_SLICE])).delete()[0])


def retire_groups(now: datetime, deadline: float) -> int:
    """Delete groups' statistics by the same ages until `deadline` (time.monotonic); returns the rows that went."""
    gone = 0
    for step, partitioned in partitions.ROLLUPS.items():
        before_ms = milliseconds(now - timedelta(seconds=ages()[partitioned]))
        length_ms = Cast("n_buckets", BigIntegerField()) * (1000 * step)  # of 25 days it is no int4 any more
        # Of an IntegerField, which the sum is to Django, PostgreSQL has no such numbers: it leaves the comparison out.
        end_ms = ExpressionWrapper(F("start_ms") + length_ms, BigIntegerField())
        ended = GroupRollup.objects.alias(end_ms=end_ms)
        old = ended.filter(step_seconds=step, start_ms__lt=before_ms, end_ms__lte=before_ms)
        while time.monotonic() < deadline and (
            some := slices.first_of(old.values_list("pk", Length("body"))[:_GROUPS_SLICE], slices.MOST_BYTES)
        ):
            gone += GroupRollup.objects.filter(pk__in=some).delete()[0]
    return gone


def oldest(partitioned: Partitioned) -> datetime | None:
    """Return when the oldest row begins that retention may delete; None where there is none."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT min(start_ms) FROM {partitioned.whole} WHERE {partitioned.which}"  # noqa: S608  own names only
            " AND host_id IN (SELECT id FROM fleet_host WHERE NOT (origin = 'imported'))"
        )
        found = cursor.fetchone()[0]
    return None if found is None else datetime.fromtimestamp(found / 1000, UTC)
