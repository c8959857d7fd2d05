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
from fleet.models import Device
from telemetry.store import latest
from training.models import ACTIVE_STATES, JobState, ReferenceJob

ORDER_LIFETIME = timedelta(minutes=10)  # an offline host may come back and still start the job within this
HELD_FOR = timedelta(hours=24)  # a job that was not let in by then ends
_LIMITS = ("power_limit_watts", "power_draw_watts")  # what a device may draw; where it has no limit, what it draws now


@dataclass(slots=True)
class Room:
    """What is left of the limits; `take` says why a job does not fit, "" where it does and is counted."""

    n_jobs: int
    watts: float

    def take(self, watts: float | None) -> str:
        most, budget = settings.STEPWATT_JOBS_AT_ONCE, settings.STEPWATT_JOBS_POWER_WATTS
        if self.n_jobs >= most:
            return f"waits: {self.n_jobs} reference jobs run, the limit is {most}"
        if budget is not None and self.n_jobs and self.watts + (watts or 0.0) > budget:
            taken, whole = units.quantity(self.watts, "watts"), units.quantity(budget, "watts")
            return f"waits: reference jobs may draw {taken} already of {whole}, this one {units.quantity(watts, 'watts')} more"
        self.n_jobs += 1
        self.watts += watts or 0.0
        return ""


def room() -> Room:
    """Return what is left beside the jobs that were let in and have not ended."""
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
        for job in waiting:
            if left.take(watts.get(job.device.uuid) if job.device else None):
                break  # the oldest first: a smaller one does not overtake
            job.sent_at, job.expires_at, job.reason = now, now + ORDER_LIFETIME, ""
            job.save(update_fields=["sent_at", "expires_at", "reason"])
            admitted.append(job)
        return admitted


def _admitted() -> Iterable[ReferenceJob]:
    return ReferenceJob.objects.filter(state__in=ACTIVE_STATES, sent_at__isnull=False).select_related("device__host")


def _held() -> QuerySet[ReferenceJob]:
    return ReferenceJob.objects.filter(state=JobState.QUEUED, sent_at=None).select_related("host", "device__host")
