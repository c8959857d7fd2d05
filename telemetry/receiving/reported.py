"""What drivers and agents report as it happens, recorded as events. Called by the ingest and its tasks. No Celery."""

from collections.abc import Mapping
from datetime import UTC, datetime

from django.conf import settings
from django.db import transaction

from fleet.inventory import events
from fleet.models import Device, Event, EventKind, Host, Severity
from telemetry.message import notices
from telemetry.message.wire import Batch, MessageInvalid
from telemetry.nvidia import clock_events, xid

REPLAY_MS = 600_000  # the broker itself hands a message out twice within minutes, nobody but a replayer later
_IDS_KEPT = 1_000  # of notices that one event stands for


def record_events(host: Host, batch: Batch, now: datetime) -> None:
    """Record what the driver reported. Equal events of one batch are one: a fault may repeat many times a second.

    An event of a device that belongs to another host is the host's alone.
    """
    first_ms: dict[tuple[str, str, int], int] = {}
    counts: dict[tuple[str, str, int], int] = {}
    for event in batch.events:
        key = (event.uuid, event.kind.value, event.code)
        first_ms[key] = min(event.at_ms, first_ms.get(key, event.at_ms))
        counts[key] = counts.get(key, 0) + event.count
    devices = Device.objects.filter(host=host).in_bulk({uuid for uuid, _, _ in counts}, field_name="uuid")
    for (uuid, kind, code), at_ms in first_ms.items():
        text, severity, detail = _words_of(kind, code)
        events.record(
            EventKind(kind), _moment(at_ms, now), text, host=host, device=devices.get(uuid), code=code,
            count=counts[uuid, kind, code], detail=detail, severity=severity,
        )  # fmt: skip


def ingest_notice(host: Host, body: bytes, now: datetime) -> bool:
    """Record what an agent tells besides telemetry; False where it was recorded before. Raises MessageInvalid."""
    notice = notices.unpack(body)
    if notice.host != host.name:
        raise MessageInvalid(f"host: {host.name} sent a message that names {notice.host}")
    kind, at = EventKind(notice.kind.value), _moment(notice.at_ms, now)
    with transaction.atomic():
        Host.objects.select_for_update().get(pk=host.pk)  # two workers with the same notice: one after the other
        near = Event.objects.filter(
            kind=kind, host=host, first_at__lte=at + events.MERGE_WITHIN, last_at__gte=at - events.MERGE_WITHIN
        )
        # Of all rows that this one may join: whichever it joins, no id is forgotten.
        kept = dict.fromkeys(each for event in near.order_by("last_at") for each in event.detail.get("notices", []))
        is_too_old = (now - at).total_seconds() > settings.STEPWATT_RETENTION_1M  # the event that knew it is gone
        if is_too_old or notice.id in kept:
            _note_replay(host, notice, now)
            return False
        ids = [*kept, notice.id][-_IDS_KEPT:]
        events.record(kind, at, notice.text, host=host, count=notice.count, detail={"notices": ids})
    return True


def _words_of(kind: str, code: int) -> tuple[str, Severity, Mapping[str, str]]:
    """Return text, severity and detail of a driver's event."""
    if kind != EventKind.XID:
        names = ", ".join(clock_events.names(code)) or "none"
        return f"clocks changed; reasons: {names}", Severity.INFO, {}
    row = xid.of_code(code)
    return f"XID {code}: {row.name}", row.severity, {"meaning": row.meaning, "action": row.action.words}


def _note_replay(host: Host, notice: notices.Notice, now: datetime) -> None:
    """A notice that comes twice within minutes is the broker's doing, and silent; an old one was kept by somebody."""
    age_ms = now.timestamp() * 1000 - notice.at_ms
    if age_ms <= REPLAY_MS:
        return
    text = f"a notice that was stored before came again, {age_ms / 60_000:.0f} min after it was sent"
    detail = {"notice": notice.id, "sent_ms": notice.at_ms}
    events.record(EventKind.REPLAYED_MESSAGE, now, text, host=host, detail=detail)


def _moment(at_ms: int, now: datetime) -> datetime:
    """Return the host's time of an event; one that lies ahead is a clock's fault, and would stand on top for ever."""
    return min(datetime.fromtimestamp(at_ms / 1000, UTC), now)
