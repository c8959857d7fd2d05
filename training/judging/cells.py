"""The cells of the results' matrix: the newest result of a host's slowest device, or of a distributed job, for a workload.

Asked by matrix.py. Reads only, and columns alone: a host has a result of each device for each workload, of which one is shown.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, TypeVar

import orjson
from django.db.models import Q, TextField
from django.db.models.expressions import Combinable
from django.db.models.functions import Cast

from fleet.models import Device, Host
from training.judging import metrics, results
from training.judging.metrics import Metric
from training.judging.results import Screened
from training.models import LossAgreement, Outcome, Verdict

_FULL_COLOUR = 0.08  # deviation at which the colour is full
Place = TypeVar("Place", bound=tuple[object, ...])


@dataclass(frozen=True, slots=True)
class Cell:
    """One result. `device` is None of a distributed job, which has `n_ranks`, and of a device that is gone."""

    job_id: int
    workload: str
    ended_at: datetime
    outcome: str
    reason: str
    agreement: str
    agreement_reason: str
    device: Device | None
    n_ranks: int | None
    metric: Metric
    value: float | None
    screened: Screened

    @property
    def deviation(self) -> float | None:
        return self.screened.deviation

    @property
    def shade(self) -> int:
        """Return the step of the diverging scale, 0 (slower) to 8 (faster)."""
        share = max(-1.0, min(1.0, (self.deviation or 0.0) / _FULL_COLOUR))
        return round(4 + 4 * share)

    @property
    def is_flagged(self) -> bool:
        return results.is_flagged(self.outcome, self.agreement, self.screened.z)

    @property
    def differs(self) -> bool:
        return self.agreement == LossAgreement.DIFFERS

    @property
    def outcome_words(self) -> str:
        return str(Outcome(self.outcome).label)

    @property
    def note(self) -> str:
        """Return what stands under the deviation's place where there is none."""
        return self.outcome_words if self.deviation is None else ""


class _Row(NamedTuple):
    """A verdict's columns, in the order of _COLUMNS; those of a device are None where it is gone, JSON is text."""

    host_id: int
    workload: str
    job_id: int
    ended_at: datetime
    outcome: str
    reason: str
    agreement: str
    agreement_reason: str
    uuid: str | None
    kind: str
    number: int | None
    model: str
    profile: str
    screens: str
    values: str


_COLUMNS: tuple[str | Combinable, ...] = (
    "job__host_id", "job__workload", "job_id", "ended_at", "outcome", "reason", "agreement", "agreement_reason",
    *(f"job__device__{name}" for name in ("uuid", "kind", "index", "model", "profile")),
    *(Cast(name, TextField()) for name in ("screens", "values")),
)  # fmt: skip


def of_hosts(hosts: Sequence[Host], mode: str) -> dict[tuple[int, str], Cell]:
    """Return the newest result of each host's slowest device by host id and workload. One query."""
    slowest: dict[tuple[int, str], tuple[_Row, Screened]] = {}
    for told in results.newest(mode, Q(job__host__in=hosts)).values_list(*_COLUMNS):
        row = _Row(*told)
        screened = results.screened(row.workload, orjson.loads(row.screens))
        place = row.host_id, row.workload
        if place not in slowest or screened.place < slowest[place][1].place:
            slowest[place] = row, screened
    return {place: _of_row(*found) for place, found in slowest.items()}


def _of_row(row: _Row, screened: Screened) -> Cell:
    device = None
    if row.uuid is not None:
        device = Device(uuid=row.uuid, kind=row.kind, index=row.number, model=row.model, profile=row.profile)
    metric = metrics.of_workload(row.workload)[0]
    value = orjson.loads(row.values).get(metric.name)
    return Cell(row.job_id, row.workload, row.ended_at, row.outcome, row.reason, row.agreement, row.agreement_reason, device,
                None, metric, value, screened)  # fmt: skip


def slowest(found: Iterable[tuple[Place, Cell]]) -> dict[Place, Cell]:
    """Return of each place the slowest cell, the first of equal ones."""
    cells: dict[Place, Cell] = {}
    for place, cell in found:
        if place not in cells or cell.screened.place < cells[place].screened.place:
            cells[place] = cell
    return cells


def of_verdict(verdict: Verdict) -> Cell:
    """Return what a table shows of a verdict, which was read with its job, and that with device and team."""
    job = verdict.job
    metric = metrics.of_workload(job.workload)[0]
    device, n_ranks = (job.device, None) if job.team is None else (None, job.team.world_size)
    return Cell(
        verdict.job_id, job.workload, verdict.ended_at, verdict.outcome, verdict.reason, verdict.agreement,
        verdict.agreement_reason, device, n_ranks, metric, verdict.values.get(metric.name),
        results.screened(job.workload, verdict.screens),
    )  # fmt: skip
