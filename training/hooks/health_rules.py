"""The health rules that reference jobs give: below baseline, and possible silent corruption. Registered when Django starts.

Each looks at the newest verdict of a device for each kind of run that was settled; a later one that passes ends the alert. The
subject of a distributed job is the set of its hosts ("hosts:node-1,node-2"): which of them is slow it cannot say.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Case, F, Max, QuerySet, When

from fleet.models import Severity
from telemetry.health.rule import Limits, Rule, Scope, Sign, Threshold, raised
from telemetry.health.rules import register
from telemetry.health.seen import HostSeen, Subject
from training.models import LossAgreement, Outcome, Team, Verdict, ranks_with_hosts, replaced

_DAYS = Threshold("days", "looks back", "days", 30, 1, 3650)
_CONCLUSIVE = (Outcome.PASS, Outcome.SLOW)
_MOST_NAMES = 150  # characters of a subject that hosts' names may take
_AT_ONCE = 2000  # verdicts whose hosts are read by one query, where sets of hosts are among them
_ADVICE_ON_RANKS = (
    "see on the job's page which rank the others wait for, and the likely cause; run the workload on each of the hosts alone, "
    "and allreduce over them, to tell a slow device from a slow link"
)
_ADVICE_ON_LOSSES_OF_RANKS = (
    "keep important work off these hosts until it is known which of them computes wrongly: run the workload with the same seed "
    "on each of the hosts alone, and have the board checked of the one whose losses differ; where none does, check the links "
    "between them"
)


@dataclass(slots=True)
class VerdictSurvey:
    """Asks the verdicts once a pass; they are few beside what the fleet sends."""

    limits: Limits
    now: datetime
    rows: Callable[[datetime], Iterable[Verdict]]
    sign: Callable[[Verdict], Sign | None]

    def see(self, host: HostSeen) -> None:
        """A host's readings say nothing of it."""

    def signs(self) -> Iterator[tuple[Subject, Sign]]:
        told = set()
        for verdict in self.rows(self.now - timedelta(days=self.limits["days"])):
            subject, sign = _subject(verdict), self.sign(verdict)
            if subject is not None and sign is not None and subject.name not in told:
                told.add(subject.name)
                yield subject, sign


def _subject(verdict: Verdict) -> Subject | None:
    """Return whom the verdict is about; None where the device, or a rank of a distributed job, is no longer known."""
    job, device, team = verdict.job, verdict.job.device, verdict.job.team
    if team is not None:
        members = tuple(host.pk for host in team.hosts)
        return Subject(f"hosts:{_names(team)}", members=members) if team.is_whole else None
    if device is None:
        return None
    return Subject(f"device:{device.uuid}", job.host_id, device.pk, f"host:{job.host.name}")


def _names(team: Team) -> str:
    """Return the hosts' names; of many the first and the last, with what tells such a set from others."""
    names = ",".join(host.name for host in team.hosts)
    if len(names) <= _MOST_NAMES:
        return names
    digest = hashlib.sha256(names.encode()).hexdigest()[:8]
    return f"{team.hosts[0].name} to {team.hosts[-1].name}, {len(team.hosts)} of them, {digest}"


def _newest(since: datetime, which: QuerySet[Verdict]) -> Iterable[Verdict]:
    """Return the newest of such verdicts for each device, or devices of a distributed job, and kind of run, newest first."""
    found = which.filter(ended_at__gte=since).exclude(job__team=None, device_key=None).order_by()
    device = Case(When(job__team=None, then=F("device_key")))  # a set is the same whichever of its devices is rank 0's
    newest = found.values(device=device, members=F("job__team__members"), kind=F("key")).annotate(newest=Max("pk"))
    rows = Verdict.objects.filter(pk__in=newest.values("newest")).select_related(
        "job__host", "job__device", "job__team"
    )
    rows = rows.defer("losses", "job__log").order_by("-ended_at").prefetch_related(ranks_with_hosts())
    return rows.iterator(chunk_size=_AT_ONCE)


def _conclusive(since: datetime) -> Iterable[Verdict]:
    """A speed that a person accepted is no alarm any more, and what was before it neither."""
    found = Verdict.objects.filter(outcome__in=_CONCLUSIVE, job__accepted=None).exclude(replaced())
    return _newest(since, found)


def _compared(since: datetime) -> Iterable[Verdict]:
    return _newest(since, Verdict.objects.filter(agreement__in=(LossAgreement.SAME, LossAgreement.DIFFERS)))


def _of_speed(verdict: Verdict) -> Sign | None:
    if verdict.outcome != Outcome.SLOW:
        return None
    slowest = max((each["slowdown"] for each in verdict.confirmation.values() if each["is_slow"]), default=None)
    cause = str(verdict.cause.get("words", ""))
    proof = {"slowdown_ratio": slowest, "job": float(verdict.job_id), "likely_cause": cause or None}
    advice = "" if verdict.job.team is None else _ADVICE_ON_RANKS
    return raised(f"{_work(verdict)}, {verdict.reason}", proof, advice)


def _work(verdict: Verdict) -> str:
    team = verdict.job.team
    return verdict.job.workload if team is None else f"{verdict.job.workload} over {team.world_size} ranks"


def _of_losses(verdict: Verdict) -> Sign | None:
    if verdict.agreement != LossAgreement.DIFFERS:
        return None
    detail = verdict.agreement_detail
    proof = {"job": float(verdict.job_id), "difference": detail.get("difference"), "tolerance": detail.get("tolerance")}
    advice = "" if verdict.job.team is None else _ADVICE_ON_LOSSES_OF_RANKS
    return raised(f"{_work(verdict)}: {verdict.agreement_reason}", proof, advice)


register(
    Rule(
        "below_baseline", "Below baseline", Severity.WARNING,
        "The newest verdict of each reference workload on the device, confirmed by fresh runs",
        "see the likely cause on the job's page; compare clocks, cap and temperature with a sound device, then run the job again",
        lambda limits, now: VerdictSurvey(limits, now, _conclusive, _of_speed),
        scope=Scope.FLEET, own_thresholds=(_DAYS,),
    )
)  # fmt: skip
register(
    Rule(
        "silent_corruption", "Possible silent corruption", Severity.CRITICAL,
        "The losses of reference trainings with one seed, beside those of other devices of the same model and software",
        "take the device out of work, run the job again on it and on a sound one, and have the board checked",
        lambda limits, now: VerdictSurvey(limits, now, _compared, _of_losses),
        scope=Scope.FLEET, own_thresholds=(_DAYS,),
    )
)  # fmt: skip
