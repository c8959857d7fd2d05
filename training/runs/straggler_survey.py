"""Looks at the newest steps of the runs that are running: who keeps the others waiting now. For the health rule 'straggler'.

What cannot be told (no communication times, too few steps after a restart) neither raises nor clears.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from telemetry.health.rule import BETWEEN, UNKNOWN, Limits, Sign, Standing, raised
from telemetry.health.seen import HostSeen, Subject
from training.models import Run, RunRank
from training.runs import stragglers
from training.runs.members import Members, members
from training.runs.why_slow import NamedStraggler, run_stragglers
from training.steps.columns import StepColumns
from training.steps.store import read

_COLUMNS = ("number", "seconds", "compute_seconds", "is_warmup", "kind", "attempt", "phases")
_STAYS_SLOW = "if it stays slow, run a reference job on this device alone"
_STEPS = stragglers.WINDOW + stragglers.PAST
_UNKNOWN_STEP_SECONDS, _LEAST_SECONDS, _MOST_SECONDS = 60.0, 10.0, 7200.0


@dataclass(slots=True)
class StragglerSurvey:
    """Asked once a pass; the hosts that it is shown say nothing of steps."""

    limits: Limits
    now: datetime
    _signs: dict[Subject, Sign] = field(default_factory=dict)

    def see(self, host: HostSeen) -> None:
        pass

    def signs(self) -> Iterable[tuple[Subject, Sign]]:
        for run in Run.objects.filter(ends_at__gt=self.now, last_step_at__isnull=False):
            for subject, sign in self._of_run(run):
                known = self._signs.get(subject)  # of two runs on one device the one that is slow speaks
                if known is None or sign.standing is Standing.RAISED:
                    self._signs[subject] = sign
        return self._signs.items()

    def _of_run(self, run: Run) -> Iterator[tuple[Subject, Sign]]:
        who = members(run)
        if len(who.ranks) < 2:
            return
        steps = _newest_steps(run, who)
        judgement = stragglers.judge(steps)
        slow = {each.rank: each for each in judgement.stragglers if each.excess >= self.limits["excess_ratio"]}
        named = {}
        if slow:
            found = run_stragglers(run, who, steps, self.now, limit=len(slow) + 10).found
            named = {each.straggler.rank: each for each in reversed(found)}
        for rank in who.ranks:
            subject = _subject(rank)
            if subject is None:
                continue
            if judgement.reason:
                yield subject, UNKNOWN
            elif rank.rank in slow and rank.rank in named:
                yield subject, _sign(run, named[rank.rank])
            elif judgement.levels.get(rank.rank, 0.0) >= self.limits["clear_excess_ratio"]:
                yield subject, BETWEEN


def _newest_steps(run: Run, who: Members) -> StepColumns:
    """Return as many of the newest steps as the verdict looks at, and its own past."""
    usual = [rank.seconds / rank.n_steps for rank in who.ranks if rank.n_steps]
    seconds = min(max(_STEPS * max(usual, default=_UNKNOWN_STEP_SECONDS), _LEAST_SECONDS), _MOST_SECONDS)
    last_ms = max(rank.last_ms for rank in who.ranks)
    return read.steps(run, last_ms - seconds * 1000, None, columns=_COLUMNS)


def _subject(rank: RunRank) -> Subject | None:
    if rank.host is None:
        return None
    scope = f"host:{rank.host.name}"
    if rank.device is None:
        return Subject(scope, rank.host.pk, None, scope)
    return Subject(f"device:{rank.device.uuid}", rank.host.pk, rank.device.pk, scope)


def _sign(run: Run, found: NamedStraggler) -> Sign:
    verdict = found.straggler
    proof: dict[str, float | str | None] = {
        "run": run.name,
        "rank": verdict.rank,
        "excess_ratio": round(verdict.excess, 4),
        "compute_seconds": round(verdict.compute_seconds, 6),
        "median_of_others_seconds": round(verdict.others_seconds, 6),
        "gpus_waiting": found.n_gpus,
        "lost_gpu_seconds": round(found.gpu_seconds, 1),
        "waited_joules": found.joules.value,
        "waited_cost": found.cost.value,
        "cause": found.causes.words,
        "seen": found.causes.likeliest.evidence if found.causes.likeliest else None,
        "slow_since_ms": int(verdict.since_ms),
    }
    advice = "" if found.causes.likeliest is None else f"{found.causes.words}: see to that first; {_STAYS_SLOW}"
    return raised(f"{run.name}: {found.words}", proof, advice)
