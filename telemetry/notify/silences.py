"""Which alerts nobody is to be told of. Asked by telemetry/notify/due.py and by the pages, which mark them."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from fleet.models import Event
from telemetry.models import Silence


def active(now: datetime) -> list[Silence]:
    """Return the silences that hold now, the longest first."""
    return list(Silence.objects.filter(starts_at__lte=now, ends_at__gt=now).order_by("-ends_at"))


def silence_of(event: Event, silences: Iterable[Silence]) -> Silence | None:
    """Return the first of these silences that covers the alert."""
    return next((silence for silence in silences if _covers(silence, event)), None)


def end(silence: Silence, now: datetime) -> bool:
    """End a silence before its time; False where it had ended."""
    return Silence.objects.filter(pk=silence.pk, ends_at__gt=now).update(ends_at=now) == 1


def told(events: Sequence[Event], now: datetime) -> list[Event]:
    """Return the alerts that no silence covers."""
    silences = active(now)
    return [event for event in events if silence_of(event, silences) is None]


def _covers(silence: Silence, event: Event) -> bool:
    """A part that is not set covers everything; an alert without a host has no labels."""
    if silence.rule and silence.rule != event.rule:
        return False
    if silence.host_id is not None and silence.host_id != event.host_id:
        return False
    if not silence.label_key:
        return True
    labels = event.host.labels if event.host else {}
    return str(labels.get(silence.label_key, "")) == silence.label_value and silence.label_key in labels
