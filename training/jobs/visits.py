"""What schedules start: beat notes which hosts are due, waits until each is there and idle, and starts one job on it.

Nothing is ever forced, and a host that stays busy until the patience is over is left out, with the reason.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from django.db import transaction

from fleet.audit import Actor
from fleet.models import Host
from training.jobs import launch, occasions
from training.jobs.cron import CronInvalid, due_at
from training.jobs.launch import LaunchRefused
from training.jobs.occasions import Occasion
from training.jobs.selection import NothingSelected, Selection, select
from training.models import Schedule, ScheduledVisit

PATIENCE = timedelta(hours=6)
KEPT_FOR = timedelta(days=90)
ITS_TIME = "its time"
_Target = tuple[str, str]  # a host's name, and the UUID of a device
_Due = tuple[_Target, str, str]  # with why, in words, and the cause


def follow(now: datetime) -> None:
    """Note what has become due, then start what can be started."""
    for schedule in Schedule.objects.filter(is_active=True):
        _look(schedule, now)
    for visit in ScheduledVisit.objects.filter(ended_at=None).select_related("schedule", "host"):
        _visit(visit, now)
    ScheduledVisit.objects.filter(ended_at__lt=now - KEPT_FOR).delete()


@transaction.atomic
def _look(schedule: Schedule, now: datetime) -> None:
    """Note the visits of the time since the schedule was last looked at; one moment a pass, however long nobody looked."""
    newest = occasions.newest_event()
    unseen = Schedule.objects.filter(pk=schedule.pk, is_active=True, seen_until=schedule.seen_until)
    if not unseen.update(seen_until=now, seen_event=newest):
        return  # another worker looks, or somebody has paused it
    due = _due(schedule, now)
    happened = occasions.of(schedule, now)
    if happened:
        happened = occasions.unknown_to(schedule.visits.values_list("causes", flat=True), happened)
    if due is None and not happened:
        return
    wanted = _fitting(Selection(**schedule.selection))
    moment = [] if due is None else [(target, ITS_TIME, f"time {due:%Y-%m-%dT%H:%M}") for target in wanted]
    _note(schedule, [*moment, *_after(schedule, happened, wanted)], now)


def _due(schedule: Schedule, now: datetime) -> datetime | None:
    """Return the moment that has come since the schedule was last looked at."""
    try:
        moment = due_at(schedule.cron, schedule.seen_until) if schedule.cron else None
    except CronInvalid:  # kept by an earlier release, which did not look for days that never come
        return None
    return moment if moment is not None and moment <= now else None


def _note(schedule: Schedule, due: Sequence[_Due], now: datetime) -> None:
    """Write a visit for each, unless one waits for that host and device already: that one follows all causes."""
    waiting = {(visit.host.name, visit.device_uuid): visit for visit in _open(schedule)}
    hosts: dict[str, Host] = {
        host.name: host for host in Host.objects.filter(name__in={target[0] for target, *_ in due})
    }
    fresh: list[ScheduledVisit] = []
    for target, why, cause in due:
        visit = waiting.get(target)
        if visit is None:
            visit = waiting[target] = ScheduledVisit(
                schedule=schedule, host=hosts[target[0]], device_uuid=target[1], why=why, due_at=now
            )
            fresh.append(visit)
        visit.causes.append(cause)
    ScheduledVisit.objects.bulk_create(fresh)
    ScheduledVisit.objects.bulk_update([visit for visit in waiting.values() if visit not in fresh], ["causes"])


def _open(schedule: Schedule) -> Iterable[ScheduledVisit]:
    return schedule.visits.filter(ended_at=None).select_related("host")


def _fitting(selection: Selection) -> list[_Target]:
    try:
        return select(selection, with_busy=True).wanted
    except NothingSelected:
        return []


def _after(schedule: Schedule, happened: Iterable[Occasion], wanted: Sequence[_Target]) -> Iterable[_Due]:
    """Yield where it is to run after what happened: on the device itself where that is one which the selection fits.

    With one job a host, the first of a host's new devices stands for all of them.
    """
    every = _fitting(Selection(**schedule.selection | {"per": "device", "n_devices": 0}))
    is_one_a_host, first = schedule.selection.get("per") == "host", dict[str, _Target]()
    for each in happened:
        target = (each.host, each.device_uuid)
        if not each.device_uuid:
            yield from ((known, each.words, each.cause) for known in wanted if known[0] == each.host)
        elif target in every:
            yield first.setdefault(each.host, target) if is_one_a_host else target, each.words, each.cause


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
