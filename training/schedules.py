"""Schedules of reference jobs: kept by people, followed by beat. What is due waits until its host is idle, then starts one job.

Nothing is ever forced, and a host that stays busy until the patience is over is left out, with the reason.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from celery.schedules import ParseException, crontab
from django.db import transaction

from fleet import audit
from fleet.audit import Actor
from fleet.models import Device, Event, EventKind, Host
from training import launch
from training.launch import LaunchRefused
from training.models import Schedule, ScheduledVisit, Trigger
from training.params import ParamsInvalid
from training.selection import NothingSelected, Selection, select
from training.workloads import validate

PATIENCE = timedelta(hours=6)
_RULE_OF_SILENCE = "host_silent"
_FIELDS = 5


class ScheduleInvalid(ValueError):
    """The schedule was not kept; `field` names what is wrong."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@transaction.atomic
def keep(
    name: str, workload: str, params: Mapping[str, Any], selection: Selection, *, cron: str, triggers: Sequence[str],
    actor: Actor, now: datetime,
) -> Schedule:  # fmt: skip
    """Write a new schedule. Raises ScheduleInvalid."""
    try:
        chosen, complete = validate(workload, params)
    except ParamsInvalid as error:
        raise ScheduleInvalid(error.field, str(error)) from error
    if not name.strip() or Schedule.objects.filter(name=name).exists():
        raise ScheduleInvalid("name", f"{name!r} is empty or taken")
    if selection.is_empty:
        raise ScheduleInvalid("selection", "choose hosts by cluster, labels or model")
    if unknown := set(triggers) - set(Trigger.values):
        raise ScheduleInvalid("triggers", f"{min(unknown)!r} is not one of {', '.join(Trigger.values)}")
    if not cron and not triggers:
        raise ScheduleInvalid("cron", "say when: a cron expression, triggers, or both")
    if cron:
        due_at(cron, now)
    kept = Schedule.objects.create(
        name=name, workload=chosen.name, params=complete, cron=cron, triggers=list(triggers), created_by=actor.name,
        selection=_as_data(selection), created_at=now, seen_until=now,
    )  # fmt: skip
    detail = {"workload": chosen.name, "cron": cron, "triggers": list(triggers)}
    audit.record(actor.name, "reference.schedule", name, detail, actor.address)
    return kept


@transaction.atomic
def remove(schedule: Schedule, *, actor: Actor) -> None:
    audit.record(actor.name, "reference.unschedule", schedule.name, {}, actor.address)
    schedule.delete()


def due_at(cron: str, after: datetime) -> datetime:
    """Return the first moment after `after` (UTC) that the expression names. Raises ScheduleInvalid."""
    parts = cron.split()
    if len(parts) != _FIELDS:
        raise ScheduleInvalid("cron", f"{cron!r}: expected minute, hour, day of month, month and day of week")
    minute, hour, day, month, weekday = parts
    try:
        found = crontab(minute, hour, day_of_month=day, month_of_year=month, day_of_week=weekday, nowfun=lambda: after)
        start, delta, _ = found.remaining_delta(after)
        moment: datetime = start + delta
    except (ParseException, ValueError) as error:
        raise ScheduleInvalid("cron", f"{cron!r}: {error}") from error
    return moment


def follow(now: datetime) -> None:
    """Note what has become due, then start what can be started."""
    for schedule in Schedule.objects.filter(is_active=True):
        _look(schedule, now)
    for visit in ScheduledVisit.objects.filter(ended_at=None).select_related("schedule", "host"):
        _visit(visit, now)


def _look(schedule: Schedule, now: datetime) -> None:
    """Note the visits of the time since the schedule was last looked at; one moment a pass, however long nobody looked."""
    since = schedule.seen_until
    if not Schedule.objects.filter(pk=schedule.pk, seen_until=since).update(seen_until=now):
        return  # another worker looks
    hosts = {
        host: why for trigger in schedule.triggers for host, why in _happened(Trigger(trigger), since, now).items()
    }
    is_due = bool(schedule.cron) and due_at(schedule.cron, since) <= now
    if not (hosts or is_due):
        return
    for name, device_uuid in _wanted(schedule):
        why = "its time" if is_due else hosts.get(name, "")
        if why and not schedule.visits.filter(host__name=name, device_uuid=device_uuid, ended_at=None).exists():
            host = Host.objects.get(name=name)
            ScheduledVisit.objects.create(schedule=schedule, host=host, device_uuid=device_uuid, why=why, due_at=now)


def _wanted(schedule: Schedule) -> list[tuple[str, str]]:
    try:
        return select(Selection(**schedule.selection), with_busy=True).wanted
    except NothingSelected:
        return []


def _happened(trigger: Trigger, since: datetime, now: datetime) -> dict[str, str]:
    """Return the hosts to which it happened after `since`, up to `now`, each with the words for it."""
    words = trigger.label
    match trigger:
        case Trigger.HOST_BACK:
            found = Event.objects.filter(rule=_RULE_OF_SILENCE, resolved_at__gt=since, resolved_at__lte=now)
            return dict.fromkeys(found.values_list("host__name", flat=True), words)
        case Trigger.SOFTWARE_CHANGED:
            found = Event.objects.filter(kind=EventKind.SOFTWARE_CHANGED, last_at__gt=since, last_at__lte=now)
            return dict.fromkeys(found.values_list("host__name", flat=True), words)
        case Trigger.DEVICE_NEW:
            devices = Device.objects.filter(created_at__gt=since, created_at__lte=now)
            return dict.fromkeys(devices.values_list("host__name", flat=True), words)


def _visit(visit: ScheduledVisit, now: datetime) -> None:
    """Start the job where the host is there and idle; give up when the patience is over."""
    reason = f"{visit.host.name} is silent"
    if not visit.host.is_silent(now):
        reason = _start(visit, now)
    if reason and now - visit.due_at > PATIENCE:
        ScheduledVisit.objects.filter(pk=visit.pk, ended_at=None).update(ended_at=now, outcome=reason[:500])


def _start(visit: ScheduledVisit, now: datetime) -> str:
    """Return why nothing was started, "" where the job was queued."""
    schedule, actor = visit.schedule, Actor(f"schedule {visit.schedule.name}"[:150])
    try:
        with transaction.atomic():
            if not ScheduledVisit.objects.filter(pk=visit.pk, ended_at=None).update(ended_at=now):
                return ""
            wanted = [(visit.host.name, visit.device_uuid)]
            (job,) = launch.prepare(schedule.workload, wanted, schedule.params, actor=actor)
            ScheduledVisit.objects.filter(pk=visit.pk).update(job=job)
    except LaunchRefused as refusal:
        return str(refusal)
    launch.send([job])
    return ""


def _as_data(selection: Selection) -> dict[str, Any]:
    return {
        "cluster": selection.cluster,
        "model": selection.model,
        "labels": dict(selection.labels),
        "per": selection.per,
    }
