"""Accepting a device's present speed as its new baseline, and which results count since. Called by pages, API and judge."""

from datetime import datetime

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet, Value

from fleet.access import audit
from fleet.access.audit import Actor
from training.models import AcceptedBaseline, Outcome, Verdict, accepted_of, replaced

MOST_REASON_CHARACTERS = 500
_NO_DEVICE = "its device is no longer known"
_ALREADY = "this result has been accepted already"


class NotAcceptable(Exception):
    """The result cannot be the new baseline; the text says why."""


def accept(verdict: Verdict, reason: str, *, is_for_all: bool, actor: Actor, now: datetime) -> AcceptedBaseline:
    """Accept the result, for all workloads of its device with `is_for_all`, else for its kind of run. Raises NotAcceptable."""
    reason = reason.strip()
    if verdict.device_key is None:
        raise NotAcceptable(_NO_DEVICE)
    if is_for_all and verdict.job.team_id is not None:
        raise NotAcceptable(
            "a distributed job says nothing of its devices' other workloads: no single device is its subject"
        )
    if against := refusal(verdict) or _refusal_of(reason):
        raise NotAcceptable(against)
    detail = {"job": verdict.job_id, "workload": verdict.job.workload, "reason": reason, "all_workloads": is_for_all}
    try:
        with transaction.atomic():
            accepted = AcceptedBaseline.objects.create(
                job=verdict.job,
                device_key=verdict.device_key,
                key="" if is_for_all else verdict.key,
                since=verdict.ended_at,
                reason=reason,
                accepted_by=actor.name,
                accepted_at=now,
            )
            audit.record(actor.name, "reference.accept_baseline", verdict.job.host.name, detail, actor.address)
    except IntegrityError as error:
        raise NotAcceptable(_ALREADY) from error
    return accepted


def newest(verdict: Verdict) -> AcceptedBaseline | None:
    """Return what was accepted last of the verdict's device, or devices, and kind of run, before its run or by it."""
    if verdict.device_key is None:
        return None
    alike = Q(key="") | Q(key=verdict.key)
    members = verdict.job.team.members if verdict.job.team else ""
    found = accepted_of(verdict.device_key, Value(members)).filter(alike, since__lte=verdict.ended_at)
    return found.order_by("-since").first()


def usable(found: QuerySet[Verdict]) -> QuerySet[Verdict]:
    """Return those that may be a measure for others: none that is suspect or slow, unless a person accepted that speed.

    Nor what such a one is confirmed by: of a suspicion that is open it is not known yet what its fresh runs say.
    """
    against = (Outcome.SLOW, Outcome.SUSPECT)
    is_slow = Q(outcome__in=against) | Q(job__fresh_for__verdict__outcome__in=against)
    nobody_accepted = Q(job__accepted=None) & Q(job__fresh_for__verdict__job__accepted=None)
    return found.exclude(is_slow & nobody_accepted).exclude(replaced())


def refusal(verdict: Verdict) -> str:
    """Return why the result cannot be accepted, "" where it can."""
    against = {
        "the job has no result": not verdict.key or verdict.outcome == Outcome.FAILED,
        _NO_DEVICE: verdict.device_key is None,
        f"a contaminated run is no baseline: {'; '.join(verdict.markers)}": not verdict.is_clean,
        "its fresh runs are not all in": verdict.is_open,
        _ALREADY: AcceptedBaseline.objects.filter(job_id=verdict.job_id).exists(),
    }
    return next((words for words, is_so in against.items() if is_so), "")


def _refusal_of(reason: str) -> str:
    if len(reason) > MOST_REASON_CHARACTERS:
        return f"a reason has at most {MOST_REASON_CHARACTERS} characters"
    return "" if reason else "say why: a new driver, a repair"
