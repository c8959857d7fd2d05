"""Letting in jobs that wait: for room, for their device, or for a host that was silent. Called by the watch.

What was asked when a job was launched is asked again before its order goes out: its device and who asked for it are still there,
nobody else uses the device, its memory is enough, a CPU is idle where it has to be, and the limits leave room. What may not
start any more ends with its reason.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import QuerySet

from fleet.models import Origin
from training.jobs import admission, askers, holding, idleness, orders, readiness
from training.jobs.admission import HELD_FOR, JOIN_WITHIN, ORDER_LIFETIME, Room
from training.jobs.drawing import UNKNOWN, Draw, draws_of
from training.jobs.holding import FOR_ITS_DEVICE, FOR_ITS_HOST
from training.models import JobState, ReferenceJob

_BEHIND_OTHERS = "waits: jobs that were launched before it wait for room"


def admit(now: datetime) -> list[ReferenceJob]:
    """Let in the oldest waiting jobs as far as there is room; returns them, for their orders to be sent."""
    with transaction.atomic():
        waiting = list(_held().select_for_update(of=("self",)).order_by("created_at", "pk"))
        if not waiting:
            return []
        room, draws = admission.room(), draws_of([job.device for job in waiting if job.device is not None])
        admitted, is_full, known = list[ReferenceJob](), False, dict[str, str]()
        for unit in _units(waiting):
            drawn = [draws.get(job.device.uuid, UNKNOWN) if job.device else UNKNOWN for job in unit]
            if not _may_start(unit, drawn, known, now):
                continue
            if is_full:  # the oldest first: a smaller one does not overtake
                _note_wait(unit, _BEHIND_OTHERS)
                continue
            is_full = not _let_in(unit, drawn, room, now)
            admitted += [job for job in unit if job.sent_at is not None]
        return admitted


def take_back(job: ReferenceJob, now: datetime) -> bool:
    """Have a job wait again whose order was sent and not taken, where it may not start now; False where it may.

    So that it is not started by a host that comes upon the order much later.
    """
    if job.team_id is not None:
        return False  # all its ranks start within seconds, or it ends
    if why := _why_void(job, {}):
        is_ended = _end([job], why, now)
        orders.send_cancel(job, now)  # its host may still come upon the order
        return is_ended
    if job.host.is_silent(now):
        return _hold(job, holding.silence(job.host, job.expires_at), job.expires_at)
    if against := _against([job]):
        return _hold(job, f"{FOR_ITS_DEVICE}{against}", job.created_at + HELD_FOR)
    return False


def _may_start(unit: Sequence[ReferenceJob], drawn: Sequence[Draw], known: dict[str, str], now: datetime) -> bool:
    """Tell whether a unit may start where there is room; end what never may, and note what is waited for.

    `known` says of those who asked whether they still may.
    """
    if void := next(filter(None, (_why_void(job, known) for job in unit)), ""):
        _end(unit, void, now)
        return False
    if silent := _silence(unit, now):
        _note_wait(unit, silent, is_longer=False)
        return False
    if unit[0].team_id is not None:
        return not admission.why_never(drawn)  # else it waits for another budget, and holds up nobody
    if unit[0].reason.startswith(FOR_ITS_HOST) and (against := _against(unit)):
        back = f"refused when {unit[0].host.name} was back"
        _end(unit, f"{back}: {against}; launch it again, or force it with a reason", now)
        return False
    return True


def _silence(unit: Sequence[ReferenceJob], now: datetime) -> str:
    first = unit[0]
    if first.team_id is not None:
        return holding.of_all([job.host for job in unit], now)
    return holding.silence(first.host, first.expires_at) if first.host.is_silent(now) else ""


def _let_in(unit: Sequence[ReferenceJob], drawn: Sequence[Draw], room: Room, now: datetime) -> bool:
    """Let a unit in where there is room and nobody uses its devices; False where there is no room."""
    before = room.n_jobs, room.watts, room.n_unknown
    if why := room.take_all(drawn):
        _note_wait(unit, why)
        return False
    if against := _against(unit) or _other_work(unit, now):
        room.n_jobs, room.watts, room.n_unknown = before
        _note_wait(unit, f"{FOR_ITS_DEVICE}{against}")
        return True
    for job in unit:
        job.sent_at, job.expires_at, job.reason = now, now + _lifetime(job), ""
        job.save(update_fields=["sent_at", "expires_at", "reason"])
    return True


def _why_void(job: ReferenceJob, known: dict[str, str]) -> str:
    """Say why a job can never be started any more, "" where it can. `known` keeps what was found of who asked."""
    if job.host.origin == Origin.IMPORTED:
        return f"{job.host.name} is {job.host.get_origin_display()} now: it cannot run anything"
    if job.device is None or job.device.host_id != job.host_id:
        return f"its device is no longer one of {job.host.name}"
    if job.requested_by not in known:
        known[job.requested_by] = askers.why_not(job.requested_by)
    return known[job.requested_by]


def _against(unit: Sequence[ReferenceJob]) -> str:
    """Say what speaks against the devices of a unit; nothing is asked of what is forced."""
    targets = [(job.host, job.device) for job in unit if job.device is not None and not job.forced]
    found = readiness.hindrances(targets, unit[0].workload, unit[0].params)
    return str(found[0]) if found else ""


def _other_work(unit: Sequence[ReferenceJob], now: datetime) -> str:
    """Say which CPU of a unit that starts on idle hosts alone does other work, "" where none does."""
    if not askers.wants_idle(unit[0].requested_by):
        return ""
    targets = [(job.host, job.device) for job in unit if job.device is not None]
    return next(map(str, idleness.hindrances(targets, now)), "")


def _note_wait(unit: Sequence[ReferenceJob], reason: str, *, is_longer: bool = True) -> None:
    """Say what a unit waits for; `is_longer`: it may wait for others, or for its device, longer than for its host."""
    for job in unit:
        expires_at = max(job.expires_at, job.created_at + HELD_FOR) if is_longer else job.expires_at
        if (job.reason, job.expires_at) != (reason, expires_at):
            ReferenceJob.objects.filter(pk=job.pk, state=JobState.QUEUED).update(reason=reason, expires_at=expires_at)


def _hold(job: ReferenceJob, reason: str, expires_at: datetime) -> bool:
    """Take an order back that nobody has taken; False where its host has, or somebody has cancelled it."""
    sent = ReferenceJob.objects.filter(pk=job.pk, state=JobState.QUEUED, sent_at=job.sent_at, cancel_requested_at=None)
    return bool(sent.update(sent_at=None, reason=reason, expires_at=expires_at))


def _end(unit: Sequence[ReferenceJob], reason: str, now: datetime) -> bool:
    queued = ReferenceJob.objects.filter(pk__in=[job.pk for job in unit], state=JobState.QUEUED)
    return bool(queued.update(state=JobState.FAILED, ended_at=now, reason=f"not started: {reason}"))


def _lifetime(job: ReferenceJob) -> timedelta:
    """Return how long a host may take to start a job whose order is sent."""
    return ORDER_LIFETIME if job.team_id is None else JOIN_WITHIN


def _units(waiting: Sequence[ReferenceJob]) -> Iterable[list[ReferenceJob]]:
    """Return what is let in together: the ranks of a distributed job, or one job; each at its oldest one's place."""
    units: dict[tuple[str, int], list[ReferenceJob]] = {}
    for job in waiting:
        key = ("job", job.pk) if job.team_id is None else ("team", job.team_id)
        units.setdefault(key, []).append(job)
    return units.values()


def _held() -> QuerySet[ReferenceJob]:
    return ReferenceJob.objects.filter(state=JobState.QUEUED, sent_at=None).select_related(
        "host", "device__host", "team"
    )
