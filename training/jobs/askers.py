"""Who asks for a job, as the job and the audit log keep it, and whether they still may when its turn comes.

People and tokens stand by their own name; what starts jobs for somebody says so: "schedule night", "ada, ladder 3",
"ada on job 9". Called by what launches, and before a job that waited is let in.
"""

import re

from fleet.access.audit import Actor
from fleet.access.auth import role_of_actor
from fleet.models import Role
from training.models import LadderRun, LadderState, ReferenceJob, Schedule

BY_ITSELF = "the verdict"
_MOST = 150
_SCHEDULE = re.compile(r"schedule (?P<name>.+)", re.DOTALL)
_LADDER = re.compile(r"(?P<who>.+), ladder (?P<number>\d{1,18})", re.DOTALL)
_FRESH = re.compile(r"(?P<who>.+) on job \d+", re.DOTALL)


def of_schedule(schedule: Schedule) -> Actor:
    return Actor(f"schedule {schedule.name}"[:_MOST])


def of_ladder(run: LadderRun) -> Actor:
    return Actor(f"{run.requested_by}, ladder {run.pk}"[:_MOST])


def of_fresh_run(asked_by: str, job: ReferenceJob) -> Actor:
    return Actor(f"{asked_by or BY_ITSELF} on job {job.pk}"[:_MOST])


def wants_idle(asker: str) -> bool:
    """Tell whether what `asker` asked for is to start on idle hosts alone (idleness.py)."""
    return bool(_SCHEDULE.fullmatch(asker) or _FRESH.fullmatch(asker))


def why_not(asker: str) -> str:
    """Say why what `asker` asked for is not to be started any more, "" where it is."""
    if found := _SCHEDULE.fullmatch(asker):
        return _of_schedule(found["name"])
    if found := _LADDER.fullmatch(asker):
        is_running = LadderRun.objects.filter(pk=found["number"], state=LadderState.RUNNING).exists()
        return _of_person(found["who"]) if is_running else f"ladder {found['number']} has ended"
    if found := _FRESH.fullmatch(asker):
        return "" if found["who"] == BY_ITSELF else _of_person(found["who"])
    return _of_person(asker)


def _of_schedule(name: str) -> str:
    kept = Schedule.objects.filter(name=name).only("is_active").first()
    if kept is None:
        return f"the schedule {name!r} was removed"
    return "" if kept.is_active else f"the schedule {name!r} was paused"


def _of_person(name: str) -> str:
    role = role_of_actor(name)
    if role is None:
        return f"{name}, who asked for it, has no access any more"
    return "" if role in {Role.OPERATOR, Role.ADMIN} else f"{name}, who asked for it, is no operator any more"
