"""From an agent's message to stored samples and events: checked, its host and devices known, stored once. No HTTP, no Celery."""

from collections.abc import Mapping
from datetime import UTC, datetime

from django.conf import settings
from django.db import transaction

from fleet import events
from fleet.models import Device, Event, EventKind, Host, Severity
from telemetry import clock_events, inventory, notices, received, xid
from telemetry.store import accept
from telemetry.store.latest import Accepted
from telemetry.wire import Batch, MessageInvalid

FUTURE_MS = 60_000  # a clock further ahead than this is wrong
REPLAY_MS = 600_000  # the broker itself hands a message out twice within minutes, nobody but a replayer later
_IDS_KEPT = 1_000  # of notices that one event stands for


def ingest(host: Host, body: bytes, now: datetime) -> bool:
    """Store a batch that `host` sent; False where it stored nothing: it was stored before, or is too old to tell.

    Raises MessageInvalid.
    """
    batch = received.unpack(body)
    _check_sender(host, batch.host)
    newest = batch.times_ms[-1]
    now_ms = now.timestamp() * 1000
    if newest > now_ms + FUTURE_MS:
        words = f"{batch.host}'s clock is {(newest - now_ms) / 1000:.0f} s ahead of the server's"
        events.record(EventKind.CLOCK_WRONG, now, f"{words}: what it sends is refused", host=host)
        raise MessageInvalid(f"times_ms: {words}")
    if newest < now_ms - settings.STEPWATT_RETENTION_RAW * 1000:
        _note_too_old(host, batch, now)
        return False
    with transaction.atomic():
        accepted = accept.accept(host, batch, body, now)
        if not accepted.is_new:
            _note_replay(host, "a batch", batch.sent_ms, _name_of(batch), now)
            return False
        devices = inventory.know_devices(host, batch.devices, now)
        inventory.know_host(host, batch, accepted.tells)
        _record_events(host, devices, batch, now)
        _note_clone(host, batch, accepted)
    return True


def ingest_notice(host: Host, body: bytes, now: datetime) -> bool:
    """Record what an agent tells besides telemetry; False where it was recorded before. Raises MessageInvalid."""
    notice = notices.unpack(body)
    _check_sender(host, notice.host)
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
            _note_replay(host, "a notice", notice.at_ms, {"notice": notice.id}, now)
            return False
        ids = [*kept, notice.id][-_IDS_KEPT:]
        events.record(kind, at, notice.text, host=host, detail={"notices": ids})
    return True


def _check_sender(host: Host, named: str) -> None:
    if named != host.name:
        raise MessageInvalid(f"host: {host.name} sent a message that names {named}")


def _record_events(host: Host, devices: Mapping[str, Device], batch: Batch, now: datetime) -> None:
    """Record what the driver reported. Equal events of one batch are one: a fault may repeat many times a second."""
    first_ms: dict[tuple[str, str, int], int] = {}
    counts: dict[tuple[str, str, int], int] = {}
    for event in batch.events:
        key = (event.uuid, event.kind.value, event.code)
        first_ms[key] = min(event.at_ms, first_ms.get(key, event.at_ms))
        counts[key] = counts.get(key, 0) + event.count
    for (uuid, kind, code), at_ms in first_ms.items():
        text, severity, detail = _words_of(kind, code)
        events.record(
            EventKind(kind), _moment(at_ms, now), text, host=host, device=devices.get(uuid), code=code,
            count=counts[uuid, kind, code], detail=detail, severity=severity,
        )  # fmt: skip


def _words_of(kind: str, code: int) -> tuple[str, Severity, dict[str, str]]:
    """Return text, severity and detail of a driver's event."""
    if kind != EventKind.XID:
        names = ", ".join(clock_events.names(code)) or "none"
        return f"clocks changed; reasons: {names}", Severity.INFO, {}
    row = xid.of_code(code)
    return f"XID {code}: {row.name}", row.severity, {"meaning": row.meaning, "action": row.action.words}


def _note_replay(host: Host, what: str, sent_ms: int, name: Mapping[str, object], now: datetime) -> None:
    """A message that comes twice within minutes is the broker's doing, and silent; an old one was kept by somebody."""
    age_ms = now.timestamp() * 1000 - sent_ms
    if age_ms <= REPLAY_MS:
        return
    text = f"{what} that was stored before came again, {age_ms / 60_000:.0f} min after it was sent"
    events.record(EventKind.REPLAYED_MESSAGE, now, text, host=host, detail={**name, "sent_ms": sent_ms})


def _note_too_old(host: Host, batch: Batch, now: datetime) -> None:
    """Whether it was stored before is not known any more: its chunk would be deleted by now."""
    days = (now.timestamp() * 1000 - batch.times_ms[-1]) / 86_400_000
    text = f"a batch of {days:.1f} days ago was refused: somebody repeats it, or the clock of {host.name} is behind"
    detail = _name_of(batch) | {"sent_ms": batch.sent_ms}
    events.record(EventKind.REPLAYED_MESSAGE, now, text, host=host, detail=detail)


def _name_of(batch: Batch) -> dict[str, object]:
    return {"epoch": batch.epoch, "sequence": batch.sequence}


def _note_clone(host: Host, batch: Batch, accepted: Accepted) -> None:
    if not accepted.rival_epoch:
        return
    text = f"two agents send with the key of {host.name} at the same time"
    detail = {
        "epoch": batch.epoch, "other_epoch": accepted.rival_epoch, "sample_ms": batch.times_ms[0],
        "other_began_ms": accepted.rival_began_ms, "machine": batch.machine,
    }  # fmt: skip
    events.record(EventKind.CLONED_KEY, _of_ms(batch.times_ms[0]), text, host=host, detail=detail)


def _moment(at_ms: int, now: datetime) -> datetime:
    """Return the host's time of an event; one that lies ahead is a clock's fault, and would stand on top for ever."""
    return min(_of_ms(at_ms), now)


def _of_ms(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
