"""Runs in the HTTP API: which there are, their figures, steps and ranks over any window. Called by fleet/api/api.py, by name."""

from datetime import datetime

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from ninja import Field, Query, Router, Schema

from fleet.api.lists import Listed, Page
from fleet.models import Device, Host
from fleet.web.api_errors import ApiError, invalid
from telemetry.api.questions import Moment
from training.api.run_answers import (
    RankItem,
    RanksAnswer,
    RunDetail,
    RunItem,
    StepsOfRun,
    StragglerItem,
    at,
    steps_of_run,
)
from training.models import Run
from training.runs import figures as run_figures
from training.runs import queries, stragglers
from training.runs.members import Members, members
from training.runs.queries import RunState
from training.runs.stragglers import Straggler
from training.steps import grid
from training.steps.columns import StepColumns
from training.steps.store import read

router = Router()

_MAX_POINTS = 4_000
_MOST_STEPS = 3_000_000  # of all ranks


class RunFilter(Page):
    """`name` is the whole name; `host` and `device` (a UUID) take part in the run."""

    name: str = ""
    state: RunState | None = None
    host: str = ""
    device: str = ""
    owner: str = ""
    group: str = ""


@router.get("/runs", response=Listed[RunItem])
def runs(request: HttpRequest, asked: Query[RunFilter]) -> Listed[RunItem]:
    """List runs, the one with the newest step first."""
    if asked.host and not Host.objects.filter(name=asked.host).exists():
        raise invalid("host", f"there is no host named {asked.host!r}")
    if asked.device and not Device.objects.filter(uuid=asked.device).exists():
        raise invalid("device", f"there is no device {asked.device!r}")
    now = timezone.now()
    found = queries.runs(
        now, state=asked.state, host=asked.host, device=asked.device, owner=asked.owner, group=asked.group
    )
    if asked.name:
        found = found.filter(name=asked.name)
    shown = list(found[asked.offset : asked.offset + asked.limit])
    parts = queries.parts(shown)
    return Listed(items=[RunItem.of(run, parts[run.pk], now) for run in shown], count=found.count())


class Window(Schema):
    """A window of a run; all of it where nothing is said."""

    start: Moment | None = None
    end: Moment | None = None

    def milliseconds(self, run: Run, now: datetime) -> tuple[int, int]:
        """Return (start, end) in ms UTC. Raises ApiError where the window is empty."""
        start, end = queries.life_ms(run, now)
        if self.start is not None:
            start = int(self.start.timestamp() * 1000)
        if self.end is not None:
            end = int(self.end.timestamp() * 1000)
        if start >= end:
            raise invalid("start", f"start ({at(start).isoformat()}) is not before end ({at(end).isoformat()})")
        return start, end


@router.get("/runs/{int:run_id}", response=RunDetail)
def run(request: HttpRequest, run_id: int, asked: Query[Window]) -> RunDetail:
    """Show a run with its figures over a window."""
    found, now = _run(run_id), timezone.now()
    start_ms, end_ms = asked.milliseconds(found, now)
    who = members(found)
    _check_length(who, start_ms, end_ms)
    figures = run_figures.figures(found, start_ms, end_ms, who=who)
    return RunDetail.of_figures(found, queries.parts([found])[found.pk], who, figures, now)


class StepsQuestion(Window):
    points: int = Field(600, ge=2, le=_MAX_POINTS)
    rank: int | None = Field(None, ge=0, le=2**31 - 1, description="Of this rank alone.")


@router.get("/runs/{int:run_id}/steps", response=StepsOfRun)
def steps(request: HttpRequest, run_id: int, asked: Query[StepsQuestion]) -> HttpResponse:
    """Show the training steps of a window, in at most `points` entries."""
    run = _run(run_id)
    start_ms, end_ms = asked.milliseconds(run, timezone.now())
    ranks = None if asked.rank is None else [asked.rank]
    who = members(run)
    if asked.rank is not None and who.of_rank(asked.rank) is None:
        raise invalid("rank", f"run {run_id} has no rank {asked.rank}")
    _check_length(who, start_ms, end_ms)
    found = read.steps(run, start_ms, end_ms, ranks=ranks)
    return steps_of_run(grid.grid(found, start_ms, end_ms, asked.points), start_ms, end_ms)


@router.get("/runs/{int:run_id}/ranks", response=RanksAnswer)
def ranks(request: HttpRequest, run_id: int, asked: Query[Window]) -> RanksAnswer:
    """Show each rank's step and compute time over a window, and who holds up the others."""
    run = _run(run_id)
    start_ms, end_ms = asked.milliseconds(run, timezone.now())
    who = members(run)
    _check_length(who, start_ms, end_ms)
    return _ranks_answer(read.steps(run, start_ms, end_ms, columns=_RANK_COLUMNS), who)


_RANK_COLUMNS = ("seconds", "compute_seconds", "number", "attempt", "kind", "is_warmup")


def _ranks_answer(found: StepColumns, who: Members) -> RanksAnswer:
    judged = stragglers.judge(found)
    slow = {each.rank for each in judged.stragglers}
    compute = grid.median_by_rank(found, "compute_seconds")
    items = [
        RankItem(
            rank=rank,
            **_place(who, rank),
            step_seconds=seconds,
            compute_seconds=compute.get(rank),
            deviation=judged.levels.get(rank),
            is_straggler=rank in slow,
        )
        for rank, seconds in grid.median_by_rank(found).items()
    ]
    verdicts = [_straggler(each, who) for each in judged.stragglers]
    return RanksAnswer(items=items, count=len(items), stragglers=verdicts, reason=judged.reason)


def _straggler(each: Straggler, who: Members) -> StragglerItem:
    return StragglerItem(
        rank=each.rank,
        **_place(who, each.rank),
        excess=each.excess,
        excess_of_own=each.excess_of_own,
        deviations=each.deviations,
        compute_seconds=each.compute_seconds,
        others_seconds=each.others_seconds,
        steps=each.n_steps,
        since=at(each.since_ms),
        waiting=each.n_waiting,
        wait_seconds=each.wait_seconds,
    )


def _place(who: Members, rank: int) -> dict[str, str | None]:
    member = who.of_rank(rank)
    host = member.host.name if member is not None and member.host is not None else None
    device = member.device.uuid if member is not None and member.device is not None else None
    return {"host": host, "device": device}


def _run(run_id: int) -> Run:
    found = queries.find(run_id)
    if found is None:
        raise ApiError(404, "not_found", f"there is no run {run_id}", "run_id")
    return found


def _check_length(who: Members, start_ms: int, end_ms: int) -> None:
    """Refuse a window of more steps than an answer is made of. Raises ApiError."""
    n_steps = who.foreseen(start_ms, end_ms)
    if n_steps > _MOST_STEPS:
        raise invalid(
            "start", f"the window holds about {n_steps:,} steps of all ranks, at most {_MOST_STEPS:,} are read at once"
        )
