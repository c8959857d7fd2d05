"""Following a suspicion up: fresh runs on the same device, one after the other while the host is idle, and then the verdict.

Called by beat through `follow`, and by people who want a device confirmed. Idempotent: each step is a conditional update.
"""

from collections.abc import Collection
from dataclasses import asdict
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import QuerySet

from fleet.access import audit
from fleet.access.audit import Actor
from fleet.turns import Turns
from training.jobs import askers, idleness, launch, readiness
from training.judging import causes, metrics
from training.judging.baseline import OWN, POPULATION, SIDE_WORDS, Earlier, same_devices
from training.models import ACTIVE_STATES, FreshRun, JobState, Outcome, ReferenceJob, Verdict, replaced
from training.verdicts.confirmation import FRESH_RUNS, Finding, TooFew, Welch, confirm, welch
from training.verdicts.screening import Standing

MOST_RUNS = 2 * FRESH_RUNS  # started for one suspicion; where half of them are contaminated, nothing can be said
PATIENCE = timedelta(hours=24)
KNOWN_FOR = timedelta(days=7)


class NotConfirmable(Exception):
    """No fresh runs can be asked for; the text says why."""


def open_suspicion(verdict: Verdict, now: datetime) -> bool:
    """Have a suspicion by a full baseline followed up; False where it is not, or is already."""
    is_full = any(row["standing"] == Standing.FULL for row in verdict.screens)
    if verdict.outcome != Outcome.SUSPECT or not is_full or _is_part_of_more(verdict.job):
        return False
    if _open_for(verdict) or _is_known(verdict, now):
        return False
    return bool(Verdict.objects.filter(pk=verdict.pk, opened_at=None).update(is_open=True, opened_at=now))


@transaction.atomic
def ask(verdict: Verdict, now: datetime, actor: Actor) -> None:
    """Have a device's result confirmed because a person wants it, whatever the screen said. Raises NotConfirmable."""
    if verdict.outcome == Outcome.FAILED or not verdict.key:
        raise NotConfirmable("the job has no result that fresh runs could be compared with")
    if verdict.job.device is None:
        raise NotConfirmable("its device is no longer known")
    if _open_for(verdict):
        raise NotConfirmable("fresh runs of this device are under way already")
    changed = Verdict.objects.filter(pk=verdict.pk, opened_at=None).update(
        is_open=True, opened_at=now, asked_by=actor.name
    )
    if not changed:
        raise NotConfirmable("this result has been followed up already; run the workload again for a new one")
    audit.record(actor.name, "reference.confirm", verdict.job.host.name, {"job": verdict.job_id}, actor.address)


def follow(now: datetime) -> None:
    """Take each open suspicion one step further."""
    turns = Turns[int]("following the suspicion of job")
    for verdict in (
        Verdict.objects.filter(is_open=True)
        .select_related("job__host", "job__device", "job__team")
        .order_by("opened_at")
    ):
        with turns.of(verdict.job_id):
            _step(verdict, now)
    turns.end()


def waits_for(verdict: Verdict, now: datetime) -> str:
    """Say what the next fresh run of an open suspicion waits for, "" where one runs or nothing is known to hold it."""
    job = verdict.job
    if not verdict.is_open or job.device is None or verdict.fresh_runs.filter(job__state__in=ACTIVE_STATES).exists():
        return ""
    if job.host.is_silent(now):
        return f"{job.host.name} is silent"
    other = ReferenceJob.objects.filter(host=job.host_id, state__in=ACTIVE_STATES).only("workload").first()
    if other is not None:
        return f"{job.host.name} has job {other.pk}, {other.workload}"
    targets = [(job.host, job.device)]
    against = idleness.hindrances(targets, now) or readiness.hindrances(targets, job.workload, job.params)
    return str(against[0]) if against else ""


def _is_known(verdict: Verdict, now: datetime) -> bool:
    """Tell whether fresh runs of such a kind found the device slow lately: it need not be proved again each day.

    A speed that a person accepted meanwhile is no longer known as slow.
    """
    alike = _alike(verdict).filter(settled_at__gte=now - KNOWN_FOR)
    newest = alike.exclude(replaced()).filter(job__accepted=None).order_by("-settled_at").first()
    return newest is not None and newest.outcome == Outcome.SLOW


def _is_part_of_more(job: ReferenceJob) -> bool:
    """A fresh run, or a process of a ladder: what it is a part of must not be disturbed by another suspicion's runs."""
    return hasattr(job, "fresh_for") or hasattr(job, "ladder_process")


def _open_for(verdict: Verdict) -> bool:
    return _alike(verdict).filter(is_open=True).exists()


def _alike(verdict: Verdict) -> QuerySet[Verdict]:
    """Return the verdicts on the same device, or devices, and kind of run."""
    return Verdict.objects.filter(same_devices(verdict.job, verdict.device_key), key=verdict.key)


def _step(verdict: Verdict, now: datetime) -> None:
    jobs = [fresh.job for fresh in verdict.fresh_runs.select_related("job__verdict")]
    if any(not job.is_final or (job.state == JobState.DONE and not hasattr(job, "verdict")) for job in jobs):
        return
    clean = [
        job for job in jobs if job.state == JobState.DONE and job.verdict.is_clean and job.verdict.key == verdict.key
    ]
    if len(clean) >= FRESH_RUNS:
        _conclude(verdict, clean, now)
    elif len(jobs) >= MOST_RUNS or now - (verdict.opened_at or now) > PATIENCE or verdict.job.device is None:
        _give_up(verdict, jobs, len(clean), now)
    else:
        _run_again(verdict, now)


def _run_again(verdict: Verdict, now: datetime) -> None:
    """Launch the next fresh run where the host is there and idle; else a later turn does."""
    job = verdict.job
    if job.device is None or job.host.is_silent(now):
        return
    actor = askers.of_fresh_run(verdict.asked_by, job)
    try:
        with transaction.atomic():
            fresh = launch.again(job, actor=actor, now=now)
            FreshRun.objects.create(verdict=verdict, job=fresh[0])
    except launch.LaunchRefused as refusal:
        if not refusal.is_busy:
            _settle(
                verdict,
                now,
                outcome=verdict.outcome,
                reason=f"{verdict.reason}; no fresh run could be started: {refusal}",
            )
        return
    launch.send(fresh)


def _conclude(verdict: Verdict, clean: list[ReferenceJob], now: datetime) -> None:
    """Give the verdict: slow where the fresh runs are worse than either baseline, by test and by least effect."""
    tests, refused = _tests(verdict, clean)
    if not tests:
        _settle(
            verdict, now, outcome=Outcome.NO_BASELINE, reason=f"no baseline for the fresh runs: {'; '.join(refused)}"
        )
        return
    findings = confirm({f"{side}/{name}": test for (side, name), test in tests.items()})
    slow = [place for place, finding in findings.items() if finding.is_slow]
    detail = {place: _shown(finding) for place, finding in findings.items()}
    words = "; ".join(_words(verdict, place, findings[place]) for place in (slow or findings))
    outcome = Outcome.SLOW if slow else Outcome.PASS
    cause = causes.of_runs(verdict, clean) if slow else {}
    text = f"{len(clean)} fresh runs: {words}"
    _settle(verdict, now, outcome=outcome, reason=text, confirmation=detail, cause=cause)


def _tests(verdict: Verdict, clean: list[ReferenceJob]) -> tuple[dict[tuple[str, str], Welch], list[str]]:
    """Test against what was known before the suspicion: neither the run that raised it nor the fresh ones are in it.

    What is tested is what was suspicious, each figure against one baseline: its own history if that raised it, else the others.
    Fewer tests find more, and the fresh runs are new. Where nothing was, as a person asked, all are tested on both sides.
    """
    tests, refused, earlier, raised = {}, [], Earlier(verdict), _raised(verdict)
    for metric in _tested(verdict, raised):
        fresh = [job.verdict.values[metric.name] for job in clean if metric.name in job.verdict.values]
        for base in earlier.both(metric.name):
            if raised and base.side != raised[metric.name]:
                continue
            try:
                tests[base.side, metric.name] = welch(fresh, base.values, is_lower_better=metric.is_lower_better)
            except TooFew as error:
                refused.append(f"{SIDE_WORDS[base.side]}: {error}")
    return tests, refused


def _raised(verdict: Verdict) -> dict[str, str]:
    """Return the baseline against which each suspicious figure is tested, by the figure's name."""
    sides: dict[str, set[str]] = {}
    for row in verdict.screens:
        is_alarm = row["z"] is not None and row["z"] > row["alarm_at"]  # of verdicts that do not say what raised them
        if row.get("raised", is_alarm):
            sides.setdefault(row["metric"], set()).add(row["side"])
    return {name: OWN if OWN in found else POPULATION for name, found in sides.items()}


def _tested(verdict: Verdict, raised: Collection[str]) -> list[metrics.Metric]:
    workload = verdict.job.workload
    every = [*metrics.of_workload(workload), *metrics.of_families(workload, verdict.values)]
    return [each for each in every if each.name in raised] if raised else list(metrics.of_workload(workload))


def _words(verdict: Verdict, place: str, finding: Finding) -> str:
    side, _, name = place.partition("/")
    metric = metrics.find(verdict.job.workload, name) or metrics.STEP
    test = finding.welch
    direction = "slower" if test.slowdown >= 0 else "faster"
    proof = f"(n {test.n_baseline}, p {finding.p_adjusted:.2g})"
    return f"{metric.words} {abs(test.slowdown):.1%} {direction} than {SIDE_WORDS[side]} {proof}"


def _shown(finding: Finding) -> dict[str, object]:
    found = asdict(finding.welch)
    found["t"] = found["t"] if abs(found["t"]) < float("inf") else None  # JSON has no infinity
    return {**found, "p_adjusted": finding.p_adjusted, "is_slow": finding.is_slow}


def _give_up(verdict: Verdict, jobs: list[ReferenceJob], n_clean: int, now: datetime) -> None:
    marked = [job for job in jobs if job.state == JobState.DONE and not job.verdict.is_clean]
    named = "; ".join(f"job {job.pk}: {', '.join(job.verdict.markers)}" for job in marked[:3])
    reason = f"no verdict: {n_clean} of {len(jobs)} fresh runs were fit for one, {FRESH_RUNS} are needed"
    if len(jobs) < MOST_RUNS and (why := waits_for(verdict, now)):
        reason = f"{reason}; the next one waited in vain, at last because {why}"
    outcome = Outcome.CONTAMINATED if marked else verdict.outcome
    _settle(verdict, now, outcome=outcome, reason=f"{reason}{'; ' if named else ''}{named}")


def _settle(verdict: Verdict, now: datetime, **fields: object) -> None:
    Verdict.objects.filter(pk=verdict.pk, is_open=True).update(is_open=False, settled_at=now, **fields)
