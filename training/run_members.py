"""Who takes part in a run: its ranks, their hosts and devices, and the hosts as wholes, whose meters stand for them.

Asked by the run's figures, pages and API, in a fixed number of queries.
"""

from dataclasses import dataclass

from fleet.models import Device, DeviceKind, Host
from training.models import Run, RunRank


@dataclass(frozen=True, slots=True)
class Members:
    """`ranks` are the newest start of each rank, by rank; devices stand in the order of the ranks, each once."""

    ranks: list[RunRank]
    hosts: list[Host]
    devices: list[Device]
    nodes: list[Device]
    n_lost: int
    n_dropped: int

    def foreseen(self, start_ms: float, end_ms: float) -> int:
        """Return about how many steps of all ranks a window holds, as their counts foretell."""
        first = min((each.first_ms for each in self.ranks), default=0)
        last = max((each.last_ms for each in self.ranks), default=0)
        inside = min(end_ms, last) - max(start_ms, first)
        n_steps = sum(each.n_steps for each in self.ranks)
        return round(n_steps * inside / (last - first)) if inside > 0 and last > first else 0

    def of_rank(self, rank: int) -> RunRank | None:
        return next((each for each in self.ranks if each.rank == rank), None)


def members(run: Run) -> Members:
    every = list(
        RunRank.objects.filter(run=run)
        .select_related("host", "device__host")
        .defer("histogram")
        .order_by("rank", "attempt")
    )
    newest = list({each.rank: each for each in every}.values())
    hosts = list({each.host_id: each.host for each in newest if each.host is not None}.values())
    if not hosts and run.host is not None:
        hosts = [run.host]
    uuids = dict.fromkeys(uuid for each in newest for uuid in _uuids(each))
    known = {device.uuid: device for device in Device.objects.filter(uuid__in=uuids).select_related("host")}
    nodes = Device.objects.filter(host__in=hosts, kind=DeviceKind.NODE).select_related("host").order_by("host__name")
    return Members(
        ranks=newest,
        hosts=hosts,
        devices=[known[uuid] for uuid in uuids if uuid in known],
        nodes=list(nodes),
        n_lost=sum(each.n_lost for each in every),
        n_dropped=sum(each.n_dropped for each in every),
    )


def _uuids(rank: RunRank) -> list[str]:
    """Return all devices that the process tells of: one as a rule, several where a single process computes on them."""
    return [str(uuid) for uuid in rank.device_uuids] or ([rank.device.uuid] if rank.device is not None else [])
