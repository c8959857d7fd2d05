"""Who takes part in a run: its ranks, their hosts and devices, and the hosts as wholes, whose meters stand for them.

Asked by the run's figures, pages and API, in a fixed number of queries.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from fleet.models import Device, Host
from telemetry.store import stays
from training.models import Run, RunRank

_REACH_STEPS, _REACH_LEAST_MS = 4.0, 60_000


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
    before: tuple["Members", ...] = ()
    """Who took part in earlier starts, by time, where these were on other hosts or devices."""

    def foreseen(self, start_ms: float, end_ms: float) -> int:
        """Return about how many steps of all ranks a window holds, as their counts foretell."""
        return round(sum(_n_inside(each, start_ms, end_ms) for each in self.starts))

    def by_time(self, start_ms: int, end_ms: int) -> Iterator[tuple["Members", int, int]]:
        """Yield who took part from when to when: once, unless a later start was elsewhere. A pause is the earlier start's."""
        line = (*self.before, self)
        for who, following in zip(line, (*line[1:], None), strict=True):
            until = end_ms if following is None else min(end_ms, following.moved_ms(who))
            if start_ms < until:
                yield who, start_ms, until
                start_ms = until

    def moved_ms(self, after: "Members") -> int:
        """Return when the first start began that `after` does not have."""
        return min(each.first_ms for each in self.starts if each.attempt > max(one.attempt for one in after.starts))

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

    @property
    def step_seconds(self) -> float:
        """Return the mean step time of the slowest rank; 0 where none has told a step."""
        return _step_seconds(self.ranks)

    @property
    def reach_ms(self) -> float:
        return reach_ms(self.ranks)

    def of_rank(self, rank: int) -> RunRank | None:
        return next((each for each in self.ranks if each.rank == rank), None)


def reach_ms(ranks: Iterable[RunRank]) -> float:
    """Return how far beyond a window's ends the steps of these ranks are read.

    One that ends beyond lies in the window in part, and a pause at its edge is known whole.
    """
    return max(_REACH_LEAST_MS, _REACH_STEPS * 1000 * _step_seconds(ranks))


def _step_seconds(ranks: Iterable[RunRank]) -> float:
    return max((rank.seconds / rank.n_steps for rank in ranks if rank.n_steps), default=0.0)


def _n_inside(start: RunRank, start_ms: float, end_ms: float) -> float:
    length, inside = start.last_ms - start.first_ms, min(end_ms, start.last_ms) - max(start_ms, start.first_ms)
    return start.n_steps * inside / length if inside > 0 and length > 0 else 0.0


def members(run: Run) -> Members:
    """Return who took part in a run, of each start the devices and hosts where they are known."""
    every = list(
        RunRank.objects.filter(run=run)
        .select_related("host", "device__host")
        .defer("histogram")
        .order_by("rank", "attempt")
    )
    uuids = {uuid for each in every for uuid in _uuids(each)}
    known = {device.uuid: device for device in Device.objects.filter(uuid__in=uuids).select_related("host")}
    hosts = {host for host in (run.host_id, *(each.host_id for each in every)) if host is not None}
    found = _Found(run, known, stays.nodes_of(hosts))
    moves = [at for at in range(1, len(every)) if _is_moved(every[at - 1], every[at])]
    firsts = sorted({every[at].attempt for at in moves})
    before = (found.members([each for each in every if each.attempt < first]) for first in firsts)
    return replace(found.members(every), before=tuple(before))


class _Found(NamedTuple):
    """What there is of a run's devices: all that its starts tell of by uuid, and its hosts as wholes."""

    run: Run
    devices: Mapping[str, Device]
    nodes: list[Device]

    def members(self, starts: list[RunRank]) -> Members:
        newest = list({each.rank: each for each in starts}.values())
        hosts = list({each.host_id: each.host for each in newest if each.host is not None}.values())
        if not hosts and self.run.host is not None:
            hosts = [self.run.host]
        uuids = dict.fromkeys(uuid for each in newest for uuid in _uuids(each))
        there = {host.pk for host in hosts}
        return Members(
            starts=starts,
            ranks=newest,
            hosts=hosts,
            devices=[self.devices[uuid] for uuid in uuids if uuid in self.devices],
            nodes=self._nodes_of_then(there, starts),
            n_lost=sum(each.n_lost for each in starts),
            n_dropped=sum(each.n_dropped for each in starts),
        )

    def _nodes_of_then(self, hosts: set[int], starts: list[RunRank]) -> list[Device]:
        """Return those that were the hosts while the starts ran: a machine may have another name by now."""
        first_ms = min((each.first_ms for each in starts), default=0)
        last_ms = max((each.last_ms for each in starts), default=0)
        then = stays.of_devices(self.nodes, first_ms, last_ms + 1)
        return [node for node in self.nodes if any(stay.host_id in hosts for stay in then[node.pk])]


def _is_moved(one: RunRank, later: RunRank) -> bool:
    """Tell whether a rank's later start was somewhere else; `one` is the row before it."""
    return one.rank == later.rank and (one.host_id, _uuids(one)) != (later.host_id, _uuids(later))


def _uuids(rank: RunRank) -> list[str]:
    """Return all devices that the process tells of: one as a rule, several where a single process computes on them."""
    return [str(uuid) for uuid in rank.device_uuids] or ([rank.device.uuid] if rank.device is not None else [])
