"""The ranks of a distributed job as rows of its page: where each is, how it steps, and how long it waits for the others."""

from collections.abc import Sequence
from dataclasses import dataclass

from training.jobs import queries, teams
from training.jobs.rank_steps import Pace
from training.models import ReferenceJob
from training.views.progress import mark, percent


@dataclass(frozen=True, slots=True)
class RankRow:
    """`why_no_pace` says why a rank has no step times; `is_slowest` marks who computes longest, where all are known."""

    job: ReferenceJob
    mark: str
    step: int
    total_steps: int
    percent: int | None
    pace: Pace
    why_no_pace: str
    is_slowest: bool

    @property
    def why_no_computing(self) -> str:
        return self.why_no_pace if self.pace.step_seconds is None else "the workload does nothing but communicate"

    @property
    def percent_words(self) -> str:
        return f"{self.percent} %"


def rank_rows(job: ReferenceJob) -> list[RankRow]:
    """Return a row for each rank, by rank; none for a job that runs alone. Two queries, and one of the steps."""
    if job.team is None:
        return []
    paces = queries.paces(job)
    return [_row(each, paces[each.rank], slowest(paces)) for each in teams.ranks(job)]


def slowest(paces: Sequence[Pace]) -> int | None:
    """Return the rank that the others wait for: whose own part of a step is the longest; None until all have told theirs."""
    told = [pace.compute_seconds for pace in paces]
    known = [seconds for seconds in told if seconds is not None]
    return told.index(max(known)) if known and len(known) == len(told) else None


def _row(job: ReferenceJob, pace: Pace, slowest_rank: int | None) -> RankRow:
    step = max(job.step, pace.step)
    why = "the job is over: it told of no measured step" if job.is_final else "no measured step yet"
    return RankRow(
        job=job,
        mark=mark(job),
        step=step,
        total_steps=job.total_steps,
        percent=None if job.is_final else percent(step, job.total_steps),
        pace=pace,
        why_no_pace=why,
        is_slowest=job.rank == slowest_rank,
    )
