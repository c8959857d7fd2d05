"""What the API answers of runs: the schemas, and steps written past them from numpy's arrays. Called by training/api/runs.py."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
from django.http import HttpResponse
from ninja import Schema

from training.figure import Figure
from training.models import Run
from training.runs.figures import RunFigures
from training.runs.members import Members
from training.runs.queries import Part, RunState
from training.steps.grid import StepGrid

Column = list[float | None]


class RunLinks(Schema):
    self: str
    steps: str
    ranks: str
    page: str


class RunItem(Schema):
    """A run. `steps` are global ones, warm-up apart; `hosts` are names with their origins; `devices` count by model."""

    id: int
    name: str
    launch: str
    state: RunState
    user: str
    owner: str
    group: str
    world_size: int | None
    ranks: int
    hosts: dict[str, str]
    devices: dict[str, int]
    description: dict[str, Any]
    restarts: int
    steps: int
    started_at: datetime
    last_step_at: datetime | None
    links: RunLinks

    @classmethod
    def of(cls, run: Run, part: Part, now: datetime) -> "RunItem":
        return cls(**run_fields(run, part, now))


def run_fields(run: Run, part: Part, now: datetime) -> dict[str, Any]:
    api = f"/api/v1/runs/{run.pk}"
    return {
        "id": run.pk,
        "name": run.name,
        "launch": run.launch,
        "state": RunState.RUNNING if run.is_running(now) else RunState.ENDED,
        "user": run.user,
        "owner": run.owner,
        "group": run.group,
        "world_size": run.world_size,
        "ranks": part.n_ranks,
        "hosts": part.hosts,
        "devices": part.models,
        "description": run.description if isinstance(run.description, dict) else {},
        "restarts": run.restarts,
        "steps": part.n_steps,
        "started_at": run.started_at,
        "last_step_at": run.last_step_at,
        "links": RunLinks(self=api, steps=f"{api}/steps", ranks=f"{api}/ranks", page=f"/runs/{run.pk}/"),
    }


class FigureItem(Schema):
    """`value` in `unit`, or null with the `reason`; `parts` are the numbers that it was made of, by words."""

    value: float | None
    unit: str
    reason: str
    remark: str
    parts: dict[str, float]

    @classmethod
    def of(cls, figure: Figure) -> "FigureItem":
        return cls(
            value=figure.value, unit=figure.unit, reason=figure.why, remark=figure.remark, parts=dict(figure.parts)
        )


class PeakItem(Schema):
    """The dense peak of equal devices, of one of them, with who says so and why it may be wrong."""

    hardware: str
    devices: int
    flops_per_second: float
    dtype: str
    sources: list[str]
    doubts: list[str]


class RunDetail(RunItem):
    """A run with its figures over `start` ≤ time < `end`, which are null where it has no step there.

    `figures` by name; `peaks` is the denominator of MFU, `flops_method` how its numerator was counted. `wall_seconds` is what the
    window went to and `phases` the share of step time by phase. `shared_with` names runs that used some of the devices, too.
    """

    start: datetime | None
    end: datetime | None
    figures: dict[str, FigureItem]
    peaks: list[PeakItem]
    flops_method: str
    flops_per_sample: float | None
    phases: dict[str, float]
    wall_seconds: dict[str, float]
    lost_datagrams: int
    dropped_datagrams: int
    shared_with: list[str]

    @classmethod
    def of_figures(cls, run: Run, part: Part, who: Members, found: RunFigures, now: datetime) -> "RunDetail":
        below = found.mfu_detail.denominator
        return cls(
            **run_fields(run, part, now),
            start=at(found.counted_ms[0]) if found.counted_ms else None,
            end=at(found.counted_ms[1]) if found.counted_ms else None,
            figures={name: FigureItem.of(figure) for name, figure in _figures(found).items()},
            peaks=[
                PeakItem(
                    hardware=peak.name, devices=peak.n_devices, flops_per_second=peak.spec.value, dtype=below.dtype,
                    sources=list(peak.spec.sources), doubts=list(peak.spec.doubts),
                )
                for peak in below.peaks
            ],
            flops_method=found.mfu_detail.method,
            flops_per_sample=found.flops_per_sample,
            phases=dict(found.phases.shares),
            wall_seconds={spent.value: seconds for spent, seconds in found.goodput.seconds.items()},
            lost_datagrams=who.n_lost,
            dropped_datagrams=who.n_dropped,
            shared_with=list(found.energy.shared_with) if found.energy else [],
        )  # fmt: skip


_TELLING = (
    "samples_per_second", "tokens_per_second", "mfu", "mfu_in_steps", "ofu", "joules", "joules_per_step", "joules_per_token",
    "samples_per_joule", "tokens_per_joule", "cost", "grams_co2",
)  # fmt: skip


def _figures(found: RunFigures) -> dict[str, Figure]:
    times = found.step_times
    why = "" if times.median is not None else "no training step in this window"
    why_none = "the run did not go on in this window" if found.goodput.share is None else ""
    return {
        "step_seconds_median": Figure(times.median, "seconds", why),
        "step_seconds_p95": Figure(times.p95, "seconds", why),
        **{name: getattr(found, name) for name in _TELLING},
        "goodput": Figure(found.goodput.share, "ratio", why_none, found.goodput.remark),
    }


class StepsOfRun(Schema):
    """Training steps in order, each list `(n,)`: an entry a global step (`is_each`), else means of `step_seconds`.

    `time_ms` is when an entry begins; `min` and `max` are the shortest and longest step in it; rates are those of all ranks
    together while they step. Null is unknown.
    """

    start: datetime
    end: datetime
    is_each: bool
    step_seconds: float | None
    time_ms: list[int]
    seconds: Column
    min: Column
    max: Column
    samples_per_second: Column
    tokens_per_second: Column
    loss: Column
    phases: dict[str, Column]


def steps_of_run(grid: StepGrid, start_ms: int, end_ms: int) -> HttpResponse:
    """Return a StepsOfRun; columns in which no step fell are left out."""
    shown = ~np.isnan(grid.seconds)
    answer = {
        "start": datetime.fromtimestamp(start_ms / 1000, UTC),
        "end": datetime.fromtimestamp(end_ms / 1000, UTC),
        "is_each": grid.is_each,
        "step_seconds": None if grid.is_each else grid.step_ms / 1000,
        "time_ms": grid.start_ms[shown].astype(np.int64),
        "seconds": grid.seconds[shown],
        "min": grid.low[shown],
        "max": grid.high[shown],
        "samples_per_second": grid.samples_per_second[shown],
        "tokens_per_second": grid.tokens_per_second[shown],
        "loss": grid.loss[shown],
        "phases": {name: values[shown] for name, values in grid.phases.items()},
    }
    body = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_UTC_Z)  # NaN is written as null
    return HttpResponse(body, content_type="application/json")


class RankItem(Schema):
    """A rank: medians over the window, and by how much it computes longer than the others in its last steps, `deviation`.

    Null is unknown.
    """

    rank: int
    host: str | None
    device: str | None
    step_seconds: float | None
    compute_seconds: float | None
    deviation: float | None
    is_straggler: bool


class StragglerItem(Schema):
    """Who holds up the others: by how much, since when, how many wait, and what the waiting came to over `steps` steps."""

    rank: int
    host: str | None
    device: str | None
    excess: float
    excess_of_own: float | None
    deviations: float
    compute_seconds: float
    others_seconds: float
    steps: int
    since: datetime
    waiting: int
    wait_seconds: float


class RanksAnswer(Schema):
    """Ranks by number; `reason` says why no verdict can be given, "" where one is."""

    items: list[RankItem]
    count: int
    stragglers: list[StragglerItem]
    reason: str


def at(milliseconds: float) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
