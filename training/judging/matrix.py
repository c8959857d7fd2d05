"""Results side by side: hosts × workloads, and below them the sets of hosts that ran distributed jobs. Reads only."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from django.db.models import Q, QuerySet, prefetch_related_objects

from fleet.models import Device, Host, Origin, in_place
from training.judging import results
from training.judging.results import Cell
from training.workloads.catalog import WORKLOADS

_NAMED = 3  # hosts of a distributed job
_Place = TypeVar("_Place")
_Set = tuple[int, ...]
"""The ids of a distributed job's hosts."""


@dataclass(frozen=True, slots=True)
class Row:
    """One host, or the `hosts` of distributed jobs, each cell the slowest of the newest results there."""

    hosts: Sequence[Host]
    cells: list[Cell | None]

    @property
    def host(self) -> Host:
        return self.hosts[0]

    @property
    def name(self) -> str:
        """Return the hosts' names, the first of many."""
        names = ", ".join(host.name for host in self.hosts[:_NAMED])
        return names if len(self.hosts) <= _NAMED else f"{names} and {len(self.hosts) - _NAMED} more"

    @property
    def clusters(self) -> str:
        """Return the clusters that the hosts lie in, each once; a host in none adds nothing."""
        return ", ".join(sorted({host.cluster for host in self.hosts if host.cluster}))

    @property
    def all_names(self) -> str:
        return " ".join(host.name for host in self.hosts)


@dataclass(frozen=True, slots=True)
class Group:
    """Hosts of one cluster whose first accelerators are of one model."""

    cluster: str
    model: str
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class Matrix:
    """`together` are the rows of distributed jobs, one a set of hosts."""

    columns: list[str]
    groups: list[Group]
    together: list[Row]

    @property
    def cells(self) -> Iterable[tuple[Row, Cell]]:
        rows = [*(row for group in self.groups for row in group.rows), *self.together]
        return ((row, cell) for row in rows for cell in row.cells if cell is not None)


def hosts_of(cluster: str = "") -> QuerySet[Host]:
    """Return every host that can run something, or those of a cluster, in the order of the rows."""
    hosts = Host.objects.filter(origin=Origin.REAL).order_by("cluster", "name")
    return hosts.filter(cluster=cluster) if cluster else hosts


def matrix(hosts: Sequence[Host], mode: str = "all", cluster: str = "", *, is_together: bool = True) -> Matrix:
    """Return the rows of these hosts by the workloads that any host has run, and where asked for those of distributed jobs.

    Six queries, of which none grows with the fleet where the hosts are those of one page.
    """
    prefetch_related_objects(hosts, "devices")
    cells: dict[tuple[int, str], Cell] = {}
    for verdict in results.newest(mode, Q(job__host__in=hosts)):
        _keep_slowest(cells, (verdict.job.host_id, verdict.job.workload), results.cell_of(verdict))
    of_sets, together = _of_sets(mode, cluster) if is_together else ({}, {})
    run = results.workloads(mode)
    columns = [name for name in WORKLOADS if name in run]
    groups: dict[tuple[str, str], list[Row]] = {}
    for host in hosts:
        row = Row([host], [cells.get((host.pk, name)) for name in columns])
        groups.setdefault((host.cluster, _model(host.devices.all())), []).append(row)
    rows = [Row(hosts, [of_sets.get((place, name)) for name in columns]) for place, hosts in together.items()]
    return Matrix(columns, [Group(cluster, model, rows) for (cluster, model), rows in groups.items()], rows)


def _of_sets(mode: str, cluster: str) -> tuple[dict[tuple[_Set, str], Cell], Mapping[_Set, list[Host]]]:
    """Return the cells of distributed jobs, and the hosts of each set; of a removed host's sets nothing is shown."""
    cells: dict[tuple[_Set, str], Cell] = {}
    found: dict[_Set, list[Host]] = {}
    for verdict in results.newest_of_teams(mode):
        team = verdict.job.team
        if team is None or not team.is_whole or (cluster and any(host.cluster != cluster for host in team.hosts)):
            continue
        place = tuple(host.pk for host in team.hosts)
        found[place] = team.hosts
        _keep_slowest(cells, (place, verdict.job.workload), results.cell_of(verdict))
    return cells, dict(sorted(found.items(), key=lambda each: [host.name for host in each[1]]))


def _keep_slowest(cells: dict[_Place, Cell], place: _Place, cell: Cell) -> None:
    if place not in cells or cell.place < cells[place].place:
        cells[place] = cell


def _model(devices: Iterable[Device]) -> str:
    ordered = sorted(devices, key=lambda device: (not device.is_accelerator, device.kind, in_place(device.index)))
    return ordered[0].model if ordered else ""


CSV_COLUMNS = (
    "cluster", "host", "device", "device_model", "workload", "job", "ended_at", "outcome", "metric", "value", "unit", "deviation",
    "z", "n", "compared_with", "reason", "losses", "ranks",
)  # fmt: skip


def csv_rows(found: Matrix) -> Iterable[Sequence[object]]:
    """Return the matrix as rows of CSV_COLUMNS, "" where something is unknown.

    Of a distributed job `cluster` and `host` name those of all its hosts, `ranks` counts its ranks, and no single device stands
    for it.
    """
    for row, cell in found.cells:
        verdict, team = cell.verdict, cell.verdict.job.team
        device = verdict.job.device if team is None else None
        yield (
            row.clusters, row.all_names, device.uuid if device else "", device.model if device else "", verdict.job.workload,
            verdict.job_id, verdict.ended_at.isoformat(), verdict.outcome, cell.metric.name, _blank(cell.value), cell.metric.unit,
            _blank(cell.deviation), _blank(cell.z), cell.n, cell.side, verdict.reason, verdict.agreement,
            team.world_size if team else "",
        )  # fmt: skip


def _blank(value: float | None) -> object:
    return "" if value is None else value
