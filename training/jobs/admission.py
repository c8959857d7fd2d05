"""How many reference jobs may run at once, by number and by power; what is over waits until others have ended.

Called by the launch (holding.py) and by what lets waiting jobs in (releasing.py). STEPWATT_JOBS_AT_ONCE and
STEPWATT_JOBS_POWER_WATTS.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings

from fleet import units
from telemetry import vendor_sql
from training.jobs.drawing import UNKNOWN, Draw, draws_of
from training.models import ACTIVE_STATES, ReferenceJob

ORDER_LIFETIME = timedelta(minutes=10)  # an offline host may come back and still start the job within this
JOIN_WITHIN = timedelta(seconds=40)  # the ranks of a distributed job wait for each other: less than JOIN_SECONDS there
HELD_FOR = timedelta(hours=24)  # a job that was not let in by then ends
TURN = 0x4A4F_4253  # "JOBS": of two launches at once both would find the last place


@dataclass(slots=True)
class Room:
    """What is taken of the limits; `take` says why a job does not fit, "" where it does and is counted.

    Under a power budget, what may draw nobody knows how much runs alone; one job alone is always let in.
    """

    n_jobs: int
    watts: float
    n_unknown: int = 0

    def take(self, draw: Draw = UNKNOWN) -> str:
        most = settings.STEPWATT_JOBS_AT_ONCE
        if self.n_jobs >= most:
            run = "jobs run" if self.n_jobs > 1 else "job runs"
            return f"waits: {self.n_jobs} reference {run}, the limit is {most}"
        if why := self._above_budget(draw):
            return f"waits: {why}"
        self.n_jobs += 1
        self.watts += draw.watts or 0.0
        self.n_unknown += draw.watts is None
        return ""

    def take_all(self, draws: Sequence[Draw]) -> str:
        """Take all or none: say why they do not fit together, "" where they do and are counted."""
        before = self.n_jobs, self.watts, self.n_unknown
        why = next(filter(None, (self.take(each) for each in draws)), "")
        if why:
            self.n_jobs, self.watts, self.n_unknown = before
        return why

    def _above_budget(self, draw: Draw) -> str:
        budget = settings.STEPWATT_JOBS_POWER_WATTS
        if budget is None or not self.n_jobs:
            return ""
        if draw.watts is None:
            return f"nothing tells what {draw.source} may draw, so under a power budget its job runs alone"
        if self.n_unknown:
            return "under a power budget a job runs alone of whose device nothing tells what it may draw"
        if self.watts + draw.watts <= budget:
            return ""
        taken, whole = units.quantity(self.watts, "watts"), units.quantity(budget, "watts")
        return f"reference jobs may draw {taken} already of {whole}, this one {draw} more"


def why_never(draws: Iterable[Draw]) -> str:
    """Say why a distributed job on devices that may draw so much would wait for ever, "" where it may be let in."""
    budget, every = settings.STEPWATT_JOBS_POWER_WATTS, list(draws)
    if budget is None:
        return ""
    if unknown := [each.source for each in every if each.watts is None]:
        return (
            f"nothing tells what {unknown[0]} may draw: under a power budget a job on it runs alone, and not as ranks"
        )
    together = sum(each.watts for each in every if each.watts is not None)
    if together <= budget:
        return ""
    return f"its devices may draw {units.quantity(together, 'watts')} together, reference jobs {units.quantity(budget, 'watts')}"


def room() -> Room:
    """Return what is taken by the jobs that were let in and have not ended.

    Until the caller's transaction ends nobody else asks.
    """
    vendor_sql.take_turn(TURN)
    running = list(_admitted())
    draws = draws_of([job.device for job in running if job.device is not None])
    if settings.STEPWATT_JOBS_POWER_WATTS is None:
        return Room(len(running), 0.0)
    each = [draws[job.device.uuid] if job.device is not None else UNKNOWN for job in running]
    unknown = sum(draw.watts is None for draw in each)
    return Room(len(running), sum(draw.watts for draw in each if draw.watts is not None), unknown)


def _admitted() -> Iterable[ReferenceJob]:
    return ReferenceJob.objects.filter(state__in=ACTIVE_STATES, sent_at__isnull=False).select_related("device__host")
