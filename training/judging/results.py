"""Results of reference jobs laid side by side: hosts × workloads, and one device's runs over time. Reads only."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Max, Q, QuerySet

from fleet.models import Device, Host, Origin
from training.judging import metrics
from training.judging.baseline import OWN, POPULATION
from training.judging.metrics import Metric
from training.models import AcceptedBaseline, LossAgreement, Outcome, Verdict
from training.verdicts import history
from training.workloads.catalog import WORKLOADS

MODES: Mapping[str, Q] = {
    "all": Q(),
    "eager": ~Q(job__params__compile="on"),
    "compile": Q(job__params__compile="on"),
}
FLAG_Z = -3.0  # outlined: so many robust deviations slower
_FULL_COLOUR = 0.08  # deviation at which the colour is full
_TREND_RUNS = 300


@dataclass(frozen=True, slots=True)
class Cell:
    """The newest verdict of a host's slowest device for a workload; `deviation` is faster − 1, `z` negative where slower."""

    verdict: Verdict
    metric: Metric
    value: float | None
    deviation: float | None
    n: int
    z: float | None
    side: str

    @property
    def shade(self) -> int:
        """Return the step of the diverging scale, 0 (slower) to 8 (faster)."""
        share = max(-1.0, min(1.0, (self.deviation or 0.0) / _FULL_COLOUR))
        return round(4 + 4 * share)

    @property
    def is_flagged(self) -> bool:
        slow = self.verdict.outcome == Outcome.SLOW or (self.z is not None and self.z < FLAG_Z)
        return slow or self.verdict.agreement == LossAgreement.DIFFERS

    @property
    def note(self) -> str:
        """Return what stands under the deviation's place where there is none."""
        return self.verdict.get_outcome_display() if self.deviation is None else ""


@dataclass(frozen=True, slots=True)
class Row:
    host: Host
    cells: list[Cell | None]


@dataclass(frozen=True, slots=True)
class Group:
    """Hosts of one cluster whose first accelerators are of one model."""

    cluster: str
    model: str
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class Matrix:
    columns: list[str]
    groups: list[Group]

    @property
    def cells(self) -> Iterable[tuple[Host, Cell]]:
        return (
            (row.host, cell) for group in self.groups for row in group.rows for cell in row.cells if cell is not None
        )


def matrix(mode: str = "all", cluster: str = "") -> Matrix:
    """Return the matrix: workloads that any host has run, and every host that can run something. Four queries."""
    hosts = Host.objects.filter(origin=Origin.REAL).prefetch_related("devices")
    hosts = hosts.filter(cluster=cluster) if cluster else hosts
    cells: dict[tuple[int, str], Cell] = {}
    for verdict in _newest(mode):
        place = (verdict.job.host_id, verdict.job.workload)
        cell = _cell(verdict)
        if place not in cells or _order(cell) < _order(cells[place]):
            cells[place] = cell
    columns = [name for name in WORKLOADS if any(workload == name for _, workload in cells)]
    groups: dict[tuple[str, str], list[Row]] = {}
    for host in hosts.order_by("cluster", "name"):
        row = Row(host, [cells.get((host.pk, name)) for name in columns])
        groups.setdefault((host.cluster, _model(host.devices.all())), []).append(row)
    return Matrix(columns, [Group(cluster, model, rows) for (cluster, model), rows in groups.items()])


def slowest_by_device() -> dict[int, Cell]:
    """Return each device's slowest among its newest results that have a deviation, by device id. One query."""
    return _slowest(_newest("all"), lambda verdict: verdict.job.device_id)


def slowest_by_host(host_ids: Sequence[int]) -> dict[int, Cell]:
    """Return of each of the hosts the newest verdict that lies furthest below its baseline; hosts without one are missing."""
    return _slowest(_newest("all", Q(job__host__in=host_ids)), lambda verdict: verdict.job.host_id)


def _slowest(verdicts: Iterable[Verdict], subject: Callable[[Verdict], int | None]) -> dict[int, Cell]:
    found: dict[int, Cell] = {}
    for verdict in verdicts:
        cell, key = _cell(verdict), subject(verdict)
        if key is not None and cell.deviation is not None and (key not in found or _order(cell) < _order(found[key])):
            found[key] = cell
    return found


def _newest(mode: str, where: Q | None = None) -> QuerySet[Verdict]:
    """Return the newest verdict of each device and workload; a ladder's processes are another story."""
    found = Verdict.objects.filter(MODES[mode], where or Q(), job__ladder_process=None, job__team=None)
    found = found.exclude(device_key=None)
    newest = found.order_by().values("device_key", "job__workload").annotate(newest=Max("pk")).values("newest")
    return (
        Verdict.objects.filter(pk__in=newest)
        .select_related("job__host", "job__device")
        .defer("losses", "agreement_detail", "job__log")
    )


def _cell(verdict: Verdict) -> Cell:
    metric = metrics.of_workload(verdict.job.workload)[0]
    screens = {row["side"]: row for row in verdict.screens if row["metric"] == metric.name}
    side = next((side for side in (POPULATION, OWN) if screens.get(side, {}).get("z") is not None), "")
    found: Mapping[str, Any] = screens.get(side, {})
    z = found.get("z")
    value = verdict.values.get(metric.name)
    return Cell(verdict, metric, value, found.get("deviation"), found.get("n", 0), None if z is None else -z, side)


def _order(cell: Cell) -> float:
    """The slowest first; what has no deviation comes after all that have one."""
    return 1e9 if cell.deviation is None else cell.deviation


def _model(devices: Iterable[Device]) -> str:
    ordered = sorted(devices, key=lambda device: (not device.is_accelerator, device.kind, device.index))
    return ordered[0].model if ordered else ""


@dataclass(frozen=True, slots=True)
class Trend:
    """Runs of one device that can be compared, oldest first; `changes` are (when, ratio to before) of lasting ones.

    `accepted` is when a person accepted a new baseline.
    """

    device: Device
    workload: str
    metric: Metric
    verdicts: list[Verdict]
    changes: list[tuple[datetime, float]]
    accepted: list[datetime]

    @property
    def values(self) -> list[float]:
        return [verdict.values[self.metric.name] for verdict in self.verdicts]


def trends(host: Host, workload: str) -> list[Trend]:
    """Return a trend for each device of the host, of the kind of run (parameters, software) that it ran last."""
    found = []
    for device in host.devices.order_by("kind", "index"):
        runs = Verdict.objects.filter(
            device_key=device.pk, job__workload=workload, job__ladder_process=None, job__team=None
        ).exclude(key="")
        newest = runs.order_by("-ended_at").first()
        if newest is not None:
            found.append(_trend(device, workload, runs.filter(key=newest.key)))
    return found


def _trend(device: Device, workload: str, runs: QuerySet[Verdict]) -> Trend:
    metric = metrics.of_workload(workload)[0]
    rows = [
        row
        for row in runs.select_related("job").order_by("-ended_at").defer("losses", "job__log")[:_TREND_RUNS]
        if metric.name in row.values
    ]
    rows.reverse()
    clean = [row for row in rows if row.is_clean]
    changes = history.changes([row.values[metric.name] for row in clean])
    at = [(clean[change.index].ended_at, change.ratio) for change in changes]
    alike = Q(key="") | Q(key=rows[0].key if rows else "")
    accepted = AcceptedBaseline.objects.filter(alike, device_key=device.pk).order_by("since")
    return Trend(device, workload, metric, rows, at, list(accepted.values_list("since", flat=True)))


CSV_COLUMNS = (
    "cluster", "host", "device", "device_model", "workload", "job", "ended_at", "outcome", "metric", "value", "unit", "deviation",
    "z", "n", "compared_with", "reason", "losses",
)  # fmt: skip


def csv_rows(found: Matrix) -> Iterable[Sequence[object]]:
    """Return the matrix as rows of CSV_COLUMNS, "" where something is unknown."""
    for host, cell in found.cells:
        verdict, device = cell.verdict, cell.verdict.job.device
        yield (
            host.cluster, host.name, device.uuid if device else "", device.model if device else "", verdict.job.workload,
            verdict.job_id, verdict.ended_at.isoformat(), verdict.outcome, cell.metric.name, _blank(cell.value), cell.metric.unit,
            _blank(cell.deviation), _blank(cell.z), cell.n, cell.side, verdict.reason, verdict.agreement,
        )  # fmt: skip


def _blank(value: float | None) -> object:
    return "" if value is None else value
