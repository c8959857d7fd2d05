"""Who takes part in a run: its ranks, their hosts and devices, and the hosts as wholes, whose meters stand for them.

Asked by the run's figures, pages and API, in a fixed number of queries.
"""

from collections import Counter
from dataclasses import dataclass

from fleet.models import Device, DeviceKind, Host
from training.models import Run, RunRank


@dataclass(frozen=True, slots=True)
class Members:
    """`starts` are all processes of the run, `ranks` the newest of each rank, by rank; devices in their order, each once."""

    starts: list[RunRank]
    ranks: list[RunRank]
    hosts: list[Host]
    devices: list[Device]
    nodes: list[Device]
    n_lost: int
    n_dropped: int

    def foreseen(self, start_ms: float, end_ms: float) -> int:
        """Return about how many steps of all ranks a window holds, as their counts foretell."""
        return round(sum(_n_inside(each, start_ms, end_ms) for each in self.starts))

    @property
    def n_steps(self) -> int:
        """Return the run's training steps, warm-up apart: those of the rank that did most, over all its starts."""
        by_rank: Counter[int] = Counter()
        for each in self.starts:
            by_rank[each.rank] += each.n_steps
        return max(by_rank.values(), default=0)

    @property
    def n_ranks(self) -> int:
        """Return how many ranks tell of themselves; an imported run's further hosts are none."""
        return sum(each.tells for each in self.ranks)

    def of_rank(self, rank: int) -> RunRank | None:
        return next((each for each in self.ranks if each.rank == rank), None)


def _n_inside(start: RunRank, start_ms: float, end_ms: float) -> float:
    length, inside = start.last_ms - start.first_ms, min(end_ms, start.last_ms) - max(start_ms, start.first_ms)
    return start.n_steps * inside / length if inside > 0 and length > 0 else 0.0


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
        starts=every,
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
