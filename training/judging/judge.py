"""Judging a job that has ended: its key, its marks of contamination, its screens, its losses. Once for each job.

`judge` writes the verdict and launches nothing; what a suspicion leads to is training/judging/suspicion.py's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet

from training.jobs import teams
from training.judging import baseline, foreign, key, losses, metrics
from training.judging.baseline import SIDE_WORDS, Earlier
from training.judging.metrics import Metric
from training.models import JobState, Outcome, ReferenceJob, ScheduledVisit, Verdict
from training.verdicts import contamination
from training.verdicts.confirmation import FRESH_RUNS, TooFew, confirm, welch
from training.verdicts.screening import FEWEST, Screen, Standing, alarm_for, screen

_PATIENCE = timedelta(minutes=2)  # the last steps and samples of a job come a batch after its result


def waiting(now: datetime) -> QuerySet[ReferenceJob]:
    """Return ended jobs without a verdict, oldest end first, as each is a baseline of the next; a person's cancel is none.

    A distributed job has one, of all its ranks, when all have ended.
    """
    told = Q(state=JobState.DONE) & (~Q(energy={}) | Q(ended_at__lt=now - _PATIENCE))
    ended = ReferenceJob.objects.filter(
        told | Q(state=JobState.FAILED) | Q(state=JobState.LOST, ended_at__lt=now - _PATIENCE)
    )
    return (
        ended.filter(Q(team=None) | Q(team__is_settled=True), verdict=None, rank=0)
        .exclude(ended_at=None)
        .select_related("host", "device", "team")
        .defer("log")
        .order_by("ended_at")
    )


def judge(job: ReferenceJob, now: datetime) -> Verdict:
    """Return the job's verdict, written now or before; idempotent. Unwritten where the job is not as it was read any more."""
    verdict = Verdict(job=job, device_key=job.device_id, ended_at=job.ended_at or now, judged_at=now)
    if job.state != JobState.DONE:
        verdict.outcome, verdict.reason, verdict.is_clean = Outcome.FAILED, job.reason, False
        return _kept(verdict)
    verdict.key_parts = key.parts(job)
    verdict.key = key.digest(verdict.key_parts)
    verdict.values = metrics.values(job.workload, job.result)
    verdict.markers = _markers(job)
    verdict.markers += [f"forced onto a device in use: {job.forced}"] if job.forced else []
    verdict.is_clean = not verdict.markers
    verdict.losses = losses.curve(job)
    _screen(verdict, _n_together(job))
    losses.compare(verdict)
    kept = _kept(verdict)
    losses.compare_undecided(kept)
    return kept


def _n_together(job: ReferenceJob) -> int:
    """Return how many results are screened at once: those of its launch, or of the moment at which its schedule was due.

    A schedule starts each host's job by a launch of its own, as each host becomes idle.
    """
    n_launched = ReferenceJob.objects.filter(launch=job.launch, rank=0).count()
    visit = ScheduledVisit.objects.filter(job=job, schedule__as_one=False).first()
    if visit is None:
        return n_launched
    return max(n_launched, ScheduledVisit.objects.filter(schedule=visit.schedule_id, due_at=visit.due_at).count())


def _markers(job: ReferenceJob) -> list[str]:
    """Return why the run is contaminated, of a distributed one on any of its ranks."""
    found: list[str] = []
    ranks = teams.ranks(job)
    for rank in ranks:
        is_on_accelerator = rank.device is not None and rank.device.is_accelerator
        beside = [each for each in ranks if each.host_id == rank.host_id and each.pk != rank.pk]
        around = contamination.of_result(_without(rank, beside), is_on_accelerator=is_on_accelerator)
        where = f"{rank.place}: " if job.team_id is not None else ""
        there = [str(each) for each in foreign.on_device(rank) or ()]
        found += [f"{where}{each}" for each in contamination.markers(around, there)]
    return found


def _without(rank: ReferenceJob, beside: Sequence[ReferenceJob]) -> Mapping[str, Any]:
    """Return the rank's result, with the cores that its job's other ranks on the host were busy on not counted as others'."""
    result: Mapping[str, Any] = rank.result
    foreign, own = result.get("foreign_cores"), [each.result.get("own_cores") for each in beside]
    if not isinstance(foreign, int | float):
        return result
    theirs = sum(cores for cores in own if isinstance(cores, int | float))
    return {**result, "foreign_cores": max(0.0, foreign - theirs)}


def _kept(verdict: Verdict) -> Verdict:
    """Write the verdict unless the job's host has told something meanwhile: one that was given up must not stay failed.

    The next turn judges what it is then.
    """
    job = verdict.job
    try:
        with transaction.atomic():
            as_judged = ReferenceJob.objects.select_for_update().filter(
                pk=job.pk, state=job.state, report_sequence=job.report_sequence
            )
            if as_judged.exists():
                verdict.save(force_insert=True)
    except IntegrityError:  # another worker judged it meanwhile
        return Verdict.objects.get(job=job)
    return verdict


def _screen(verdict: Verdict, n_jobs: int) -> None:
    if not verdict.is_clean:
        verdict.outcome = Outcome.CONTAMINATED
        verdict.reason = f"no verdict on a contaminated run: {'; '.join(verdict.markers)}"
        return
    found = _screens(verdict, n_jobs)
    alarms = [(metric, side, each) for metric, side, _, each in found if each.is_alarm]
    series = {} if alarms else _slow_series(verdict)
    raised = {(side, metric.name) for metric, side, _ in alarms} | set(series)
    verdict.screens = [
        {
            "side": side,
            "metric": metric.name,
            "n_devices": n_devices,
            **asdict(each),
            "raised": (side, metric.name) in raised,
        }
        for metric, side, n_devices, each in found
    ]
    if alarms:
        verdict.outcome, verdict.reason = Outcome.SUSPECT, "; ".join(_alarm_words(*alarm) for alarm in alarms)
    elif series:
        verdict.outcome, verdict.reason = Outcome.SUSPECT, "; ".join(series.values())
    elif any(each.standing != Standing.NONE for *_, each in found):
        verdict.outcome = Outcome.PASS
        verdict.reason = (
            ""
            if any(each.standing == Standing.FULL for *_, each in found)
            else "advisory: fewer than 10 runs to compare with"
        )
    else:
        verdict.outcome = Outcome.NO_BASELINE
        verdict.reason = f"{_why_no_baseline(found)}{_what_is_new(verdict)}"


def _screens(verdict: Verdict, n_jobs: int) -> list[tuple[Metric, str, int, Screen]]:
    """Return (metric, side, number of devices, screen); of a result with many figures each is screened as in a fleet."""
    earlier, workload = Earlier(verdict), verdict.job.workload
    by_family = metrics.of_families(workload, verdict.values)
    alarms = [(metric, alarm_for(n_jobs)) for metric in metrics.of_workload(workload) if metric.name in verdict.values]
    alarms += [(metric, alarm_for(max(n_jobs, len(by_family)))) for metric in by_family]
    found = []
    for metric, alarm_at in alarms:
        value, is_lower_better = verdict.values[metric.name], metric.is_lower_better
        for base in earlier.both(metric.name):
            screened = screen(value, base.values, is_lower_better=is_lower_better, alarm_at=alarm_at)
            found.append((metric, base.side, base.n_devices, screened))
    return found


def _slow_series(verdict: Verdict) -> dict[tuple[str, str], str]:
    """Return why the device's newest runs together, this one included, are suspicious although none is alone: by side and metric.

    One run shows little below four times the noise; five show a third of it (docs/verdicts.md). Only fresh runs decide.
    """
    own = baseline.same_devices(verdict.job, verdict.device_key)
    newest = list(baseline.history(verdict).filter(own)[: FRESH_RUNS - 1])
    if len(newest) < FRESH_RUNS - 1 or any(hasattr(row.job, "fresh_for") for row in newest):
        return {}
    earlier = Earlier(verdict, without=[row.job_id for row in newest])
    tests, words = {}, {}
    for metric in metrics.of_workload(verdict.job.workload):
        runs = [row.values[metric.name] for row in [verdict, *newest] if metric.name in row.values]
        for base in earlier.both(metric.name):
            try:
                tests[base.side, metric.name] = welch(runs, base.values, is_lower_better=metric.is_lower_better)
            except TooFew:
                continue
            words[base.side, metric.name] = (
                f"{metric.words} of its newest {len(runs)} runs against {SIDE_WORDS[base.side]}"
            )
    found = confirm({f"{side} {name}": test for (side, name), test in tests.items()})
    return {
        (side, name): f"{words[side, name]}: {tests[side, name].slowdown:+.1%} slower".replace("+", "")
        for side, name in tests
        if found[f"{side} {name}"].is_slow
    }


def _alarm_words(metric: Metric, side: str, found: Screen) -> str:
    advisory = ", advisory" if found.standing == Standing.ADVISORY else ""
    return f"{metric.words} {found.deviation or 0:+.1%} against {SIDE_WORDS[side]} (z {found.z or 0:.1f}, n {found.n}{advisory})"


def _what_is_new(verdict: Verdict) -> str:
    """Say in what the device's newest run before with these parameters differs, so that it is no baseline, "" where none does."""
    own = baseline.same_devices(verdict.job, verdict.device_key)
    alike = Verdict.objects.filter(
        own, job__workload=verdict.job.workload, job__params=verdict.job.params, is_clean=True,
        job__team__isnull=verdict.job.team is None,
    )  # fmt: skip
    before = alike.filter(ended_at__lt=verdict.ended_at).exclude(key="").order_by("-ended_at").first()
    if before is None or before.key == verdict.key:
        return ""
    differs = ", ".join(key.differences(verdict.key_parts, before.key_parts))
    return f"; job {before.job_id}, the newest before, is no measure, as it had another {differs}"


def _why_no_baseline(found: list[tuple[Metric, str, int, Screen]]) -> str:
    counts = {side: each.n for _, side, _, each in found}
    if not counts:
        return "the result holds no figure that is compared"
    n_own, n_others = counts.get(baseline.OWN, 0), counts.get(baseline.POPULATION, 0)
    return f"{n_own} earlier clean runs of this device and {n_others} of others like it; {FEWEST} are needed"
