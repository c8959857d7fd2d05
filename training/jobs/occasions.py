"""What schedules follow besides time: hosts that came back, software that changed, devices that are new. Reads only.

Events come a little late, and of two that are written at once the later may be seen first: the last ones are always looked at
again, and what was followed already is known by its `cause`.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import F, Max

from fleet.models import Device, Event, EventKind
from training.models import Schedule, Trigger

RULE_OF_SILENCE = "host_silent"
_AGAIN = timedelta(minutes=2)
_EVENTS_AGAIN = 200


@dataclass(frozen=True, slots=True)
class Occasion:
    """Something that happened to a host, or to one of its devices where `device_uuid` names it."""

    host: str
    device_uuid: str
    cause: str
    words: str


def newest_event() -> int:
    """Return the id of the newest event, 0 where there is none."""
    return Event.objects.aggregate(newest=Max("pk"))["newest"] or 0


def of(schedule: Schedule, now: datetime) -> list[Occasion]:
    """Return what happened since the schedule was last looked at, and shortly before."""
    since = max(schedule.seen_until - _AGAIN, schedule.active_since)
    after = schedule.seen_event
    first = None if after is None else max(after - _EVENTS_AGAIN, schedule.first_event)
    found: list[Occasion] = []
    for name in schedule.triggers:
        match Trigger(name):
            case Trigger.HOST_BACK:
                found += _back(since, now)
            case Trigger.SOFTWARE_CHANGED:
                found += _of_events(EventKind.SOFTWARE_CHANGED, first, Trigger.SOFTWARE_CHANGED)
            case Trigger.DEVICE_NEW:
                found += _new(since, now)
                found += _of_events(EventKind.DEVICE_MOVED, first, Trigger.DEVICE_NEW)
    return found


def _back(since: datetime, now: datetime) -> Iterable[Occasion]:
    """An alert of silence also ends where its rule is switched off: only a host that was heard since has come back."""
    ended = Event.objects.filter(rule=RULE_OF_SILENCE, resolved_at__gt=since, resolved_at__lte=now)
    for event in ended.filter(host__heard_at__gt=F("last_at")).select_related("host"):
        if event.host is not None and "resolved" not in event.detail:
            yield Occasion(event.host.name, "", f"event {event.pk}", Trigger.HOST_BACK.label)


def _of_events(kind: EventKind, first: int | None, trigger: Trigger) -> Iterable[Occasion]:
    """By their ids: their times are those of the hosts' clocks, and what a host tells after an outage is hours old."""
    if first is None:
        return
    for event in Event.objects.filter(kind=kind, pk__gt=first).select_related("host", "device").order_by("pk"):
        if event.host is not None:
            uuid = event.device.uuid if event.device is not None else ""
            yield Occasion(event.host.name, uuid, f"event {event.pk}", trigger.label)


def _new(since: datetime, now: datetime) -> Iterable[Occasion]:
    """A part of a device is none: MIG instances come and go with every other division."""
    whole = Device.objects.filter(created_at__gt=since, created_at__lte=now, parent=None, profile="")
    for device in whole.select_related("host").order_by("host", "kind", "index"):
        yield Occasion(device.host.name, device.uuid, f"device {device.pk}", Trigger.DEVICE_NEW.label)


def unknown_to(causes: Iterable[Collection[str]], found: Iterable[Occasion]) -> list[Occasion]:
    """Return those that no visit was made for: `causes` are those of the visits."""
    followed = {cause for each in causes for cause in each}
    return [each for each in found if each.cause not in followed]
