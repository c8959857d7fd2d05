"""What schedules start: beat notes which hosts are due, waits until each is there and idle, and starts one job on it.

The ranks of a distributed job wait until all their hosts are. Nothing is ever forced, and a host that stays busy until the
patience is over is left out, with the reason.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import QuerySet

from fleet.models import Host
from fleet.turns import Turns
from training.jobs import askers, launch, occasions
from training.jobs.cron import CronInvalid, due_at
from training.jobs.launch import LaunchRefused
from training.jobs.occasions import Occasion
from training.jobs.selection import NothingSelected, Selection, select
from training.models import Schedule, ScheduledVisit

PATIENCE = timedelta(hours=6)
KEPT_FOR = timedelta(days=90)
ITS_TIME = "its time"
_MOST_OUTCOME = 500
_Target = tuple[str, str]  # a host's name, and the UUID of a device
_Due = tuple[_Target, str, str]  # with why, in words, and the cause


def follow(now: datetime) -> None:
    """Note what has become due, then start what can be started."""
    turns = Turns[str]("following")
    for schedule in Schedule.objects.filter(is_active=True):
        with turns.of(f"schedule {schedule.pk}"):
            _look(schedule, now)
    waiting = ScheduledVisit.objects.filter(ended_at=None).select_related("schedule", "host")
    for together in _together(waiting.order_by("pk")):
        with turns.of(f"visit {together[0].pk}"):
            _visit(together, now)
    ScheduledVisit.objects.filter(ended_at__lt=now - KEPT_FOR).delete()
    turns.end()


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
    """Write a visit for each, unless one waits for that host and device already: that one follows all causes.

    Ranks of a distributed job that wait already stay those that they are.
    """
    waiting = {(visit.host.name, visit.device_uuid): visit for visit in _open(schedule)}
    hosts: dict[str, Host] = {
        host.name: host for host in Host.objects.filter(name__in={target[0] for target, *_ in due})
    }
    is_whole = schedule.as_one and bool(waiting)
    fresh: list[ScheduledVisit] = []
    for target, why, cause in due:
        visit = waiting.get(target)
        if visit is None and is_whole:
            continue
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

    With one job a host, the first of a host's new devices stands for all of them. A distributed job runs on all its hosts
    whichever of them it happened to.
    """
    if schedule.as_one:
        here = {host for host, _ in wanted}
        yield from ((each, it.words, it.cause) for it in happened if it.host in here for each in wanted)
        return
    every = _fitting(Selection(**schedule.selection | {"per": "device", "n_devices": 0}))
    is_one_a_host, first = schedule.selection.get("per") == "host", dict[str, _Target]()
    for each in happened:
        target = (each.host, each.device_uuid)
        if not each.device_uuid:
            yield from ((known, each.words, each.cause) for known in wanted if known[0] == each.host)
        elif target in every:
            yield first.setdefault(each.host, target) if is_one_a_host else target, each.words, each.cause


def _together(waiting: Iterable[ScheduledVisit]) -> list[list[ScheduledVisit]]:
    """Return the visits that start at one moment or not at all: the ranks of a distributed job, or one by itself."""
    found: dict[tuple[str, int], list[ScheduledVisit]] = {}
    for visit in waiting:
        key = ("schedule", visit.schedule_id) if visit.schedule.as_one else ("visit", visit.pk)
        found.setdefault(key, []).append(visit)
    return list(found.values())


def _visit(together: Sequence[ScheduledVisit], now: datetime) -> None:
    """Start the job where its hosts are there and idle; say why not, and give up when the patience is over."""
    reason = (_silence(together, now) or _start(together, now))[:_MOST_OUTCOME]
    if reason and now - together[0].due_at > PATIENCE:
        _open_of(together).update(ended_at=now, outcome=reason)
    elif reason:
        _open_of(together).exclude(outcome=reason).update(outcome=reason)


def _silence(together: Sequence[ScheduledVisit], now: datetime) -> str:
    silent = sorted({visit.host.name for visit in together if visit.host.is_silent(now)})
    return f"{', '.join(silent)} {'is' if len(silent) == 1 else 'are'} silent" if silent else ""


def _start(together: Sequence[ScheduledVisit], now: datetime) -> str:
    """Return why nothing was started, "" where the job, or all ranks of it, were queued."""
    schedule = together[0].schedule
    actor = askers.of_schedule(schedule)
    try:
        with transaction.atomic():
            if _open_of(together).update(ended_at=now, outcome="") < len(together):
                transaction.set_rollback(True)  # another worker starts them, or somebody has paused the schedule
                return ""
            wanted = [(visit.host.name, visit.device_uuid) for visit in together]
            jobs = launch.prepare(
                schedule.workload, wanted, schedule.params, actor=actor, now=now, as_one=schedule.as_one,
                only_when_idle=True,
            )  # fmt: skip
            for visit, job in zip(together, jobs, strict=True):
                ScheduledVisit.objects.filter(pk=visit.pk).update(job=job)
    except LaunchRefused as refusal:
        if not refusal.is_busy:  # it will not be otherwise in an hour
            _open_of(together).update(ended_at=now, outcome=str(refusal)[:_MOST_OUTCOME])
        return refusal.why
    launch.send(jobs)
    return ""


def _open_of(together: Sequence[ScheduledVisit]) -> QuerySet[ScheduledVisit]:
    return ScheduledVisit.objects.filter(pk__in=[visit.pk for visit in together], ended_at=None)
