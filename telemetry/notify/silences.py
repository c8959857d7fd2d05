"""Which alerts nobody is to be told of: made, ended and looked up. Asked by due.py, the API, and the pages, which mark them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import QuerySet

from fleet.access import audit
from fleet.access.audit import Actor
from fleet.models import Event, Host
from telemetry.health import rules
from telemetry.models import Silence

LONGEST_MINUTES = 365 * 1440
_LONGEST_KEY, _LONGEST_VALUE = 63, 500  # of a label, as the model has room for


class SilenceRefused(Exception):
    """None was made; `field` is what is wrong, the text says how."""

    def __init__(self, field: str, words: str) -> None:
        super().__init__(words)
        self.field = field


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be silenced, and for how long; `label` is `key=value`. What is "" matches everything."""

    comment: str
    minutes: int
    rule: str = ""
    host: str = ""
    label: str = ""


def create(asked: Asked, actor: Actor, now: datetime) -> Silence:
    """Tell nobody of matching alerts from now on. Raises SilenceRefused."""
    key, _, value = asked.label.partition("=")
    if asked.label and not (key and value):
        raise SilenceRefused("label", f"label: expected key=value, found {asked.label!r}")
    if len(key) > _LONGEST_KEY or len(value) > _LONGEST_VALUE:
        longest = f"{_LONGEST_KEY} characters and a value of {_LONGEST_VALUE}"
        raise SilenceRefused("label", f"label: expected a key of at most {longest}")
    if asked.rule and asked.rule not in rules.by_name():
        raise SilenceRefused("rule", f"rule: there is no rule named {asked.rule!r}")
    host = Host.objects.filter(name=asked.host).first() if asked.host else None
    if asked.host and host is None:
        raise SilenceRefused("host", f"host: there is no host named {asked.host!r}")
    if not asked.comment.strip():
        raise SilenceRefused("comment", "comment: say why, for the others")
    if not 1 <= asked.minutes <= LONGEST_MINUTES:
        raise SilenceRefused("minutes", f"minutes: expected 1 to {LONGEST_MINUTES}, found {asked.minutes}")
    with transaction.atomic():
        silence = Silence.objects.create(
            rule=asked.rule, host=host, label_key=key, label_value=value, comment=asked.comment.strip()[:500],
            created_by=actor.name, created_at=now, starts_at=now, ends_at=now + timedelta(minutes=asked.minutes),
        )  # fmt: skip
        audit.record(actor.name, "silence.create", str(silence)[:200], {"silence": silence.pk}, actor.address)
    return silence


def active(now: datetime) -> list[Silence]:
    """Return the silences that hold now, the longest first."""
    return list(Silence.objects.filter(starts_at__lte=now, ends_at__gt=now).select_related("host").order_by("-ends_at"))


def silence_of(event: Event, silences: Iterable[Silence]) -> Silence | None:
    """Return the first of these silences that covers the alert."""
    return next((silence for silence in silences if _covers(silence, event)), None)


def end(silence: Silence, actor: Actor, now: datetime) -> bool:
    """End a silence before its time; False where it had ended."""
    with transaction.atomic():
        if not Silence.objects.filter(pk=silence.pk, ends_at__gt=now).update(ends_at=now):
            return False
        audit.record(actor.name, "silence.end", str(silence)[:200], {"silence": silence.pk}, actor.address)
    return True


def covered(open_alerts: QuerySet[Event], now: datetime) -> dict[int, Silence]:
    """Return of these alerts those that a silence covers now, each with it, by the alert's id."""
    holding = active(now)
    found = {event.pk: silence_of(event, holding) for event in open_alerts.select_related("host")} if holding else {}
    return {pk: silence for pk, silence in found.items() if silence is not None}


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
