"""Results side by side: hosts × workloads, and below them the sets of hosts that ran distributed jobs. Reads only."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from django.db.models import QuerySet

from fleet.models import ACCELERATORS, Device, Host, Origin, in_place
from training.judging import cells, results
from training.judging.cells import Cell
from training.models import Team
from training.workloads.catalog import WORKLOADS

_NAMED = 3  # hosts of a distributed job
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


def hosts_of(cluster: str | None = None) -> QuerySet[Host]:
    """Return every host that can run something, or those of a cluster, in the order of the rows."""
    hosts = Host.objects.filter(origin=Origin.REAL).only("name", "cluster").order_by("cluster", "name")
    return hosts if cluster is None else hosts.filter(cluster=cluster)


def matrix(
    hosts: Sequence[Host], mode: str = "all", cluster: str | None = None, *, is_together: bool = True
) -> Matrix:  # fmt: skip
    """Return the rows of these hosts by the workloads that any host has run, and where asked for those of distributed jobs.

    Five queries, of which none grows with the fleet where the hosts are those of one page.
    """
    of_hosts, models = cells.of_hosts(hosts, mode), _models(hosts)
    teams = list(_teams(mode, cluster)) if is_together else []
    of_sets = cells.slowest(((place, cell.workload), cell) for place, _, cell in teams)
    together = {place: team.hosts for place, team, _ in teams}
    run = results.workloads(mode)
    columns = [name for name in WORKLOADS if name in run]
    groups: dict[tuple[str, str], list[Row]] = {}
    for host in hosts:
        row = Row([host], [of_hosts.get((host.pk, name)) for name in columns])
        groups.setdefault((host.cluster, models.get(host.pk, "")), []).append(row)
    by_names = sorted(together.items(), key=lambda each: [host.name for host in each[1]])
    rows = [Row(of_set, [of_sets.get((place, name)) for name in columns]) for place, of_set in by_names]
    return Matrix(columns, [Group(cluster, model, rows) for (cluster, model), rows in groups.items()], rows)


def _teams(mode: str, cluster: str | None) -> Iterator[tuple[_Set, Team, Cell]]:
    """Yield the newest results of distributed jobs with their hosts; of a removed host's sets nothing is shown.

    Of a `cluster` they are those that went within it.
    """
    for verdict in results.newest_of_teams(mode):
        team = verdict.job.team
        if team is None or not team.is_whole:
            continue
        if cluster is not None and any(host.cluster != cluster for host in team.hosts):
            continue
        yield tuple(host.pk for host in team.hosts), team, cells.of_verdict(verdict)


def _models(hosts: Sequence[Host]) -> dict[int, str]:
    """Return the model of each host's first accelerator or, where it has none, of its first device, by host id."""
    first: dict[int, tuple[tuple[bool, str, tuple[bool, int]], str]] = {}
    rows = Device.objects.filter(host__in=hosts).values_list("host_id", "kind", "index", "model")
    for host, kind, index, model in rows:
        place = kind not in ACCELERATORS, kind, in_place(index)
        if host not in first or place < first[host][0]:
            first[host] = place, model
    return {host: model for host, (_, model) in first.items()}


CSV_COLUMNS = (
    "cluster", "host", "device", "device_model", "workload", "job", "ended_at", "outcome", "metric", "value", "unit", "deviation",
    "z", "n", "compared_with", "reason", "losses", "ranks",
)  # fmt: skip


def csv_rows(found: Matrix) -> Iterable[Sequence[object]]:
    """Return the matrix as rows of CSV_COLUMNS, None where something is unknown.

    Of a distributed job `cluster` and `host` name those of all its hosts, `ranks` counts its ranks, and no single device stands
    for it.
    """
    for row, cell in found.cells:
        device, screened = cell.device, cell.screened
        yield (
            row.clusters, row.all_names, device.uuid if device else "", device.model if device else "", cell.workload,
            cell.job_id, cell.ended_at, cell.outcome, cell.metric.name, cell.value, cell.metric.unit,
            screened.deviation, screened.z, screened.n, screened.side, cell.reason, cell.agreement,
            cell.n_ranks,
        )  # fmt: skip
