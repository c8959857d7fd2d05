"""How many reference jobs may run at once, by number and by power; what is over waits, oldest first, until others have ended.

Called by the launch and by the watch. STEPWATT_JOBS_AT_ONCE and STEPWATT_JOBS_POWER_WATTS.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from fleet import units
from fleet.models import Device, Host
from telemetry import vendor_sql
from telemetry.store import latest
from training.jobs import readiness
from training.models import ACTIVE_STATES, JobState, ReferenceJob

ORDER_LIFETIME = timedelta(minutes=10)  # an offline host may come back and still start the job within this
JOIN_WITHIN = timedelta(seconds=40)  # the ranks of a distributed job wait for each other: less than JOIN_SECONDS there
HELD_FOR = timedelta(hours=24)  # a job that was not let in by then ends
TURN = 0x4A4F_4253  # "JOBS": of two launches at once both would find the last place
FOR_ITS_DEVICE = "waits for its device: "  # and then who has it
_LIMITS = ("power_limit_watts", "power_draw_watts")  # what a device may draw; where it has no limit, what it draws now


@dataclass(slots=True)
class Room:
    """What is left of the limits; `take` says why a job does not fit, "" where it does and is counted."""

    n_jobs: int
    watts: float

    def take(self, watts: float | None) -> str:
        most, budget = settings.STEPWATT_JOBS_AT_ONCE, settings.STEPWATT_JOBS_POWER_WATTS
        if self.n_jobs >= most:
            run = "jobs run" if self.n_jobs > 1 else "job runs"
            return f"waits: {self.n_jobs} reference {run}, the limit is {most}"
        if budget is not None and self.n_jobs and self.watts + (watts or 0.0) > budget:
            taken, whole = units.quantity(self.watts, "watts"), units.quantity(budget, "watts")
            return f"waits: reference jobs may draw {taken} already of {whole}, this one {units.quantity(watts, 'watts')} more"
        self.n_jobs += 1
        self.watts += watts or 0.0
        return ""

    def take_all(self, watts: Sequence[float | None]) -> str:
        """Take all or none: say why they do not fit together, "" where they do and are counted."""
        before = self.n_jobs, self.watts
        why = next(filter(None, (self.take(each) for each in watts)), "")
        if why:
            self.n_jobs, self.watts = before
        return why


def why_never(watts: Iterable[float | None]) -> str:
    """Say why a distributed job on devices that may draw so much would wait for ever, "" where it may be let in."""
    budget, together = settings.STEPWATT_JOBS_POWER_WATTS, sum(known for known in watts if known is not None)
    if budget is None or together <= budget:
        return ""
    return f"its devices may draw {units.quantity(together, 'watts')} together, reference jobs {units.quantity(budget, 'watts')}"


def room() -> Room:
    """Return what is left beside the jobs that were let in and have not ended.

    Until the caller's transaction ends nobody else asks.
    """
    vendor_sql.take_turn(TURN)
    running = list(_admitted())
    watts = watts_of([job.device for job in running if job.device is not None])
    return Room(len(running), sum(known for known in watts.values() if known is not None))


def watts_of(devices: Sequence[Device]) -> dict[str, float | None]:
    """Return what each device may draw, by UUID; None where nothing is known of it."""
    if settings.STEPWATT_JOBS_POWER_WATTS is None or not devices:
        return {}
    known = latest.of_hosts([device.host for device in devices])
    found: dict[str, float | None] = {}
    for device in devices:
        newest = known.get(device.host_id)
        values = newest.devices[device.uuid].values if newest is not None and device.uuid in newest.devices else {}
        found[device.uuid] = next((values[name] for name in _LIMITS if name in values), None)
    return found


def admit(now: datetime) -> list[ReferenceJob]:
    """Let in the oldest waiting jobs as far as there is room; returns them, for their orders to be sent."""
    with transaction.atomic():
        waiting = list(_held().select_for_update(of=("self",)).order_by("created_at", "pk"))
        if not waiting:
            return []
        left, watts, admitted = room(), watts_of([job.device for job in waiting if job.device is not None]), []
        for unit in _units(waiting):
            drawn = [watts.get(job.device.uuid) if job.device else None for job in unit]
            if unit[0].team_id is not None and (waiting_for([job.host for job in unit], now) or why_never(drawn)):
                continue  # it waits for a host or for another budget, and holds up nobody
            before = left.n_jobs, left.watts
            if left.take_all(drawn):
                break  # the oldest first: a smaller one does not overtake
            if _waits_for_devices(unit):
                left.n_jobs, left.watts = before
                continue
            for job in unit:
                job.sent_at, job.expires_at, job.reason = now, now + lifetime(job), ""
                job.save(update_fields=["sent_at", "expires_at", "reason"])
            admitted += unit
        return admitted


def _waits_for_devices(unit: Sequence[ReferenceJob]) -> bool:
    """Tell whether a device of the unit was taken while it waited, and note by whom; nothing is asked of what is forced."""
    targets = [(job.host, job.device) for job in unit if job.device is not None and not job.forced]
    found = readiness.hindrances(targets, unit[0].workload, unit[0].params)
    if found:
        reason = f"{FOR_ITS_DEVICE}{found[0]}"
        ReferenceJob.objects.filter(pk__in=[job.pk for job in unit]).exclude(reason=reason).update(reason=reason)
    return bool(found)


def lifetime(job: ReferenceJob) -> timedelta:
    """Return how long a host may take to start a job whose order is sent."""
    return ORDER_LIFETIME if job.team_id is None else JOIN_WITHIN


def waiting_for(hosts: Sequence[Host], now: datetime) -> str:
    """Say which hosts a distributed job waits for, "" where all are there."""
    silent = sorted({host.name for host in hosts if host.is_silent(now)})
    return (
        f"waits: {', '.join(silent)} silent, and a distributed job starts on all its hosts or on none" if silent else ""
    )


def _units(waiting: Sequence[ReferenceJob]) -> Iterable[list[ReferenceJob]]:
    """Return what is let in together: the ranks of a distributed job, or one job; each at its oldest one's place."""
    units: dict[tuple[str, int], list[ReferenceJob]] = {}
    for job in waiting:
        key = ("job", job.pk) if job.team_id is None else ("team", job.team_id)
        units.setdefault(key, []).append(job)
    return units.values()


def _admitted() -> Iterable[ReferenceJob]:
    return ReferenceJob.objects.filter(state__in=ACTIVE_STATES, sent_at__isnull=False).select_related("device__host")


def _held() -> QuerySet[ReferenceJob]:
    return ReferenceJob.objects.filter(state=JobState.QUEUED, sent_at=None).select_related(
        "host", "device__host", "team"
    )
