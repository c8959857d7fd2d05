"""What the API answers of runs: the schemas, and steps written past them from numpy's arrays. Called by training/api_runs.py."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
from django.http import HttpResponse
from ninja import Schema

from training.models import Run
from training.run_queries import Part, RunState
from training.step_grid import StepGrid

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
    """A rank over the window: `deviation` is by how much it computes longer than the median of the others, null unknown."""

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
