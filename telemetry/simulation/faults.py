"""What goes wrong in a simulated fleet, and when: drawn from the seed, in order of time. Called by the simulated fleet."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

_HOST_GAP_SECONDS = 7200.0  # a host's mean time between faults
_LONGEST_GAP_SECONDS = 120.0  # a small fleet has faults to show all the same
# Of the fleet's past: what breaks for good in a day at the pace above would be half of a small one.
_PAST_GAP_SECONDS = 3600.0


class FaultKind(StrEnum):
    OVERHEATED = "overheated"  # a GPU sheds too little heat: the driver lowers its clocks
    BRAKED = "braked"  # the power supply pulls the brake: all clocks of the host are halved
    LOST = "lost"  # XID 79: the GPU fell off the bus, and comes back when the driver is loaded again
    MEMORY = "memory"  # XID 94: contained memory error, a row is to be remapped
    LINK = "link"  # NVLink packets sent again
    HANGING = "hanging"  # the driver's calls for a GPU do not return
    SILENT = "silent"  # the host says nothing
    HOT_MEMORY = "hot_memory"  # a GPU's memory sheds too little heat
    NARROW = "narrow"  # the PCIe link is trained anew, on fewer lanes
    UNREPLACED = "unreplaced"  # XID 64: a memory row could not be replaced
    PROGRAM = "program"  # XID 31: a program uses an address that it does not have
    FULL = "full"  # the host's disk is full: the agent's spool cannot be written, and batches are given up
    SKEWED = "skewed"  # the host's clock runs ahead
    UNLOADED = "unloaded"  # the driver was taken down
    STUCK = "stuck"  # the GPU must be reset
    SLOW = "slow"  # a GPU's clocks stay low: the others of its run wait for it, and its reference jobs take longer
    CORRUPT = "corrupt"  # a GPU computes wrongly: only the losses of its reference jobs tell
    DELAYED = "delayed"  # what the host sends is long under way


_SECONDS = {
    FaultKind.OVERHEATED: (180, 600),
    FaultKind.BRAKED: (30, 120),
    FaultKind.LOST: (120, 600),
    FaultKind.MEMORY: (0, 0),
    FaultKind.LINK: (0, 0),
    FaultKind.HANGING: (20, 90),
    FaultKind.SILENT: (60, 180),
    FaultKind.HOT_MEMORY: (180, 600),
    FaultKind.NARROW: (120, 600),
    FaultKind.UNREPLACED: (0, 0),
    FaultKind.PROGRAM: (0, 0),
    FaultKind.FULL: (60, 300),
    FaultKind.SKEWED: (120, 600),
    FaultKind.UNLOADED: (30, 120),
    FaultKind.STUCK: (120, 600),
    FaultKind.SLOW: (300, 900),
    FaultKind.CORRUPT: (300, 900),
    FaultKind.DELAYED: (180, 600),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """`device` is a GPU's index; host-wide faults have one too, which means nothing. UTC seconds."""

    kind: FaultKind
    host: int
    device: int
    start: float
    end: float


def faults(seed: str, start: float, n_hosts: int, n_gpus: int, past_until: float = 0.0) -> Iterator[Fault]:
    """Yield the fleet's faults without end, ordered by their start; they are rarer until `past_until`."""
    choose = random.Random(seed)  # noqa: S311 — a simulation is to be repeatable
    gap = min(_LONGEST_GAP_SECONDS, _HOST_GAP_SECONDS / n_hosts)
    kinds: list[FaultKind] = []
    at = start
    while True:
        is_past = at < past_until
        at += choose.expovariate(1 / (_PAST_GAP_SECONDS if is_past else gap))
        if is_past and at >= past_until:
            at = past_until + choose.expovariate(1 / gap)
        if not kinds:  # each kind once before any comes twice
            kinds = choose.sample(list(FaultKind), len(FaultKind))
        kind = kinds.pop()
        yield Fault(kind, choose.randrange(n_hosts), choose.randrange(n_gpus), at, at + choose.uniform(*_SECONDS[kind]))
