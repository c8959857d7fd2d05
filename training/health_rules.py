"""The health rules that reference jobs give: below baseline, and possible silent corruption. Registered when Django starts.

Each looks at the newest verdict of a device for each kind of run that was settled; a later one that passes ends the alert.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Max, QuerySet

from fleet.models import Severity
from telemetry.health.rule import Limits, Rule, Scope, Sign, Threshold, raised
from telemetry.health.rules import register
from telemetry.health.seen import HostSeen, Subject
from training.models import LossAgreement, Outcome, Verdict, replaced

_DAYS = Threshold("days", "looks back", "days", 30, 1, 3650)
_CONCLUSIVE = (Outcome.PASS, Outcome.SLOW)


@dataclass(slots=True)
class VerdictSurvey:
    """Asks the verdicts once a pass; they are few beside what the fleet sends."""

    limits: Limits
    now: datetime
    rows: Callable[[datetime], Iterator[Verdict]]
    sign: Callable[[Verdict], Sign | None]

    def see(self, host: HostSeen) -> None:
        """A host's readings say nothing of it."""

    def signs(self) -> Iterator[tuple[Subject, Sign]]:
        told = set()
        for verdict in self.rows(self.now - timedelta(days=self.limits["days"])):
            device, sign = verdict.job.device, self.sign(verdict)
            if device is not None and sign is not None and device.pk not in told:
                told.add(device.pk)
                host = verdict.job.host
                yield Subject(f"device:{device.uuid}", host.pk, device.pk, f"host:{host.name}"), sign


def _newest(since: datetime, which: QuerySet[Verdict]) -> Iterator[Verdict]:
    """Yield the newest of such verdicts for each device and kind of run, newest first."""
    found = which.filter(ended_at__gte=since, job__team=None).exclude(device_key=None)
    newest = found.order_by().values("device_key", "key").annotate(newest=Max("pk")).values("newest")
    return (
        Verdict.objects.filter(pk__in=newest)
        .select_related("job__host", "job__device")
        .order_by("-ended_at")
        .iterator()
    )


def _conclusive(since: datetime) -> Iterator[Verdict]:
    """A speed that a person accepted is no alarm any more, and what was before it neither."""
    found = Verdict.objects.filter(outcome__in=_CONCLUSIVE, job__accepted=None).exclude(replaced())
    return _newest(since, found)


def _compared(since: datetime) -> Iterator[Verdict]:
    return _newest(since, Verdict.objects.filter(agreement__in=(LossAgreement.SAME, LossAgreement.DIFFERS)))


def _of_speed(verdict: Verdict) -> Sign | None:
    if verdict.outcome != Outcome.SLOW:
        return None
    slowest = max((each["slowdown"] for each in verdict.confirmation.values() if each["is_slow"]), default=None)
    text = f"{verdict.job.workload}, {verdict.reason}"
    cause = str(verdict.cause.get("words", ""))
    return raised(text, {"slowdown_ratio": slowest, "job": float(verdict.job_id), "likely_cause": cause or None})


def _of_losses(verdict: Verdict) -> Sign | None:
    if verdict.agreement != LossAgreement.DIFFERS:
        return None
    detail = verdict.agreement_detail
    proof = {"job": float(verdict.job_id), "difference": detail.get("difference"), "tolerance": detail.get("tolerance")}
    return raised(f"{verdict.job.workload}: {verdict.agreement_reason}", proof)


register(
    Rule(
        "below_baseline", "Below baseline", Severity.WARNING,
        "The newest verdict of each reference workload on the device, confirmed by fresh runs.",
        "see the likely cause on the job's page; compare clocks, cap and temperature with a sound device, then run the job again",
        lambda limits, now: VerdictSurvey(limits, now, _conclusive, _of_speed),
        scope=Scope.FLEET, own_thresholds=(_DAYS,),
    )
)  # fmt: skip
register(
    Rule(
        "silent_corruption", "Possible silent corruption", Severity.CRITICAL,
        "The losses of reference trainings with one seed, beside those of other devices of the same model and software.",
        "take the device out of work, run the job again on it and on a sound one, and have the board checked",
        lambda limits, now: VerdictSurvey(limits, now, _compared, _of_losses),
        scope=Scope.FLEET, own_thresholds=(_DAYS,),
    )
)  # fmt: skip
