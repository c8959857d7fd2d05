"""Schedules of reference jobs as people keep them: made, changed, paused, removed, each audited. What they start, visits does.

Called by the API and the pages. A schedule says when (by cron, after events) and where (by a selection); it never forces.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction

from fleet.access import audit
from fleet.access.audit import Actor
from training.jobs import askers, occasions
from training.jobs.cron import CronInvalid, due_at
from training.jobs.selection import Selection
from training.models import JobState, ReferenceJob, Schedule, Trigger
from training.workloads.catalog import validate, why_not_as_one
from training.workloads.params import ParamsInvalid

_LONGEST_NAME = 100
_LONGEST_CRON = 100
PAUSED = "the schedule was paused"
CHANGED = "the schedule was changed"


class ScheduleInvalid(ValueError):
    """The schedule was not kept; `field` names what is wrong."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class Plan:
    """What a schedule says. `cron` is in UTC, `triggers` are names of models.Trigger; at least one of the two.

    `as_one`: what is selected are the ranks of one distributed job.
    """

    name: str
    workload: str
    selection: Selection
    cron: str = ""
    triggers: Sequence[str] = ()
    params: dict[str, Any] = field(default_factory=dict)
    as_one: bool = False


@transaction.atomic
def keep(plan: Plan, *, actor: Actor, now: datetime) -> Schedule:
    """Write a new schedule. Raises ScheduleInvalid."""
    newest = occasions.newest_event()
    fields = _checked(plan, now)
    with _one_of_its_name(fields["name"]):
        kept = Schedule.objects.create(
            **fields, created_by=actor.name, created_at=now, seen_until=now, active_since=now, seen_event=newest,
            first_event=newest,
        )  # fmt: skip
    _audit("reference.schedule", kept, actor)
    return kept


@transaction.atomic
def change(schedule: Schedule, plan: Plan, *, actor: Actor, now: datetime) -> Schedule:
    """Have the schedule say something else from now on; what waits for its host starts as it now says.

    Where it now says other hosts, or that they are one job or no longer one, nothing waits on. Raises ScheduleInvalid.
    """
    where, asker = (schedule.as_one, schedule.selection), askers.of_schedule(schedule).name
    fields = _checked(plan, now, schedule.pk)
    with _one_of_its_name(fields["name"]):
        if not Schedule.objects.filter(pk=schedule.pk).update(**fields):
            raise ScheduleInvalid("name", f"the schedule {schedule.name!r} was removed meanwhile")
    schedule.refresh_from_db()
    waiting = ReferenceJob.objects.filter(state=JobState.QUEUED, requested_by=asker)
    # By its name it is asked whether they may still start.
    waiting.update(requested_by=askers.of_schedule(schedule).name)
    if (schedule.as_one, schedule.selection) != where:
        schedule.visits.filter(ended_at=None).update(ended_at=now, outcome=CHANGED)
    _audit("reference.schedule_change", schedule, actor)
    return schedule


@transaction.atomic
def pause(schedule: Schedule, *, actor: Actor, now: datetime) -> bool:
    """Have it start nothing until it is resumed; False where it is paused already. Jobs that it started go on."""
    if not Schedule.objects.filter(pk=schedule.pk, is_active=True).update(is_active=False):
        return False
    schedule.visits.filter(ended_at=None).update(ended_at=now, outcome=PAUSED)
    audit.record(actor.name, "reference.schedule_pause", schedule.name, {}, actor.address)
    return True


@transaction.atomic
def resume(schedule: Schedule, *, actor: Actor, now: datetime) -> bool:
    """Have it follow time and events again; what happened while it was paused stays unfollowed."""
    newest = occasions.newest_event()
    since = {"seen_until": now, "active_since": now, "seen_event": newest, "first_event": newest}
    if not Schedule.objects.filter(pk=schedule.pk, is_active=False).update(is_active=True, **since):
        return False
    audit.record(actor.name, "reference.schedule_resume", schedule.name, {}, actor.address)
    return True


@transaction.atomic
def remove(schedule: Schedule, *, actor: Actor) -> None:
    audit.record(actor.name, "reference.unschedule", schedule.name, {}, actor.address)
    schedule.delete()


@contextmanager
def _one_of_its_name(name: str) -> Iterator[None]:
    """Write within: of two people who give one name at the same moment, both of whom saw it free, the second is refused."""
    try:
        with transaction.atomic():
            yield
    except IntegrityError as error:
        if Schedule.objects.filter(name=name).exists():
            raise _taken(name) from error
        raise


def _taken(name: str) -> ScheduleInvalid:
    return ScheduleInvalid("name", f"{name!r} is taken")


def _checked(plan: Plan, now: datetime, own: int | None = None) -> dict[str, Any]:
    """Return the fields of the model. Raises ScheduleInvalid."""
    name = plan.name.strip()
    if not name or len(name) > _LONGEST_NAME:
        raise ScheduleInvalid("name", f"give a name of at most {_LONGEST_NAME} characters")
    if Schedule.objects.filter(name=name).exclude(pk=own or 0).exists():
        raise _taken(name)
    try:
        chosen, complete = validate(plan.workload, plan.params)
    except ParamsInvalid as error:
        raise ScheduleInvalid(error.field, error.message) from error
    if plan.as_one and (why_not := why_not_as_one(chosen)):
        raise ScheduleInvalid("workload", why_not)
    if plan.selection.is_empty:
        raise ScheduleInvalid("selection", "choose hosts by cluster, labels or model")
    _check_when(plan, now)
    return {
        "name": name,
        "workload": chosen.name,
        "params": complete,
        "selection": _as_data(plan.selection),
        "as_one": plan.as_one,
        "cron": " ".join(plan.cron.split()),
        "triggers": [each for each in Trigger.values if each in plan.triggers],
    }


def _check_when(plan: Plan, now: datetime) -> None:
    if unknown := set(plan.triggers) - set(Trigger.values):
        raise ScheduleInvalid("triggers", f"{min(unknown)!r} is not one of {', '.join(Trigger.values)}")
    if not plan.cron.strip() and not plan.triggers:
        raise ScheduleInvalid("cron", "say when: a cron expression, triggers, or both")
    if len(" ".join(plan.cron.split())) > _LONGEST_CRON:
        raise ScheduleInvalid("cron", f"an expression has at most {_LONGEST_CRON} characters")
    if plan.cron.strip():
        try:
            due_at(plan.cron, now)
        except CronInvalid as error:
            raise ScheduleInvalid("cron", str(error)) from error


def _audit(action: str, schedule: Schedule, actor: Actor) -> None:
    detail = {
        "workload": schedule.workload,
        "params": schedule.params,
        "selection": schedule.selection,
        **({"distributed": True} if schedule.as_one else {}),
        "cron": schedule.cron,
        "triggers": schedule.triggers,
    }
    audit.record(actor.name, action, schedule.name, detail, actor.address)


def _as_data(selection: Selection) -> dict[str, Any]:
    return {
        "cluster": selection.cluster,
        "model": selection.model,
        "labels": dict(selection.labels),
        "per": selection.per,
        "n_devices": selection.n_devices,
    }
