"""The rule that finds a device far below its peers: of its Slurm job, else of its user on this host. Data for rules.py; pure.

Distances are in robust standard deviations: (x − median) / (1.4826 × median absolute deviation). Peers that agree exactly
would make any difference infinite, so that the deviation counts as 1 % of the median at least.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median
from typing import NamedTuple

from fleet import units
from fleet.models import ACCELERATORS, Severity
from telemetry.health.rule import BETWEEN, UNKNOWN, Limits, Rule, Scope, Sign, Threshold, raised
from telemetry.health.seen import DeviceSeen, HostSeen, Subject

_CONSISTENT = 1.4826  # of the median absolute deviation with the standard deviation of a normal distribution
_LEAST_SPREAD = 0.01
_LOAD, _CLOCK = "gpu_utilization_ratio", "sm_clock_hertz"
_METRICS = ((_LOAD, "utilisation", "ratio"), (_CLOCK, "clock", "hertz"))
_AT_WORK = 0.05  # a device below this utilisation is no peer: it may have no part in the work


class Spread(NamedTuple):
    """The middle of a group's values, and its robust standard deviation, in their unit."""

    median: float
    deviation: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Measure at least one value; the one that is looked for is among them, and hardly moves a median."""
        middle = median(values)
        deviation = _CONSISTENT * median([abs(value - middle) for value in values])
        return cls(middle, max(deviation, _LEAST_SPREAD * abs(middle)), len(values))

    def shortfall(self, value: float) -> float:
        """Return by how much of the median the value lies below it."""
        return (self.median - value) / self.median if self.median else 0.0

    def robust_z(self, value: float) -> float:
        return (value - self.median) / self.deviation if self.deviation else 0.0


class _Peer(NamedTuple):
    """A device and its values, in the order of _METRICS; None where it gives none."""

    name: str
    host_id: int
    device_id: int
    scope: str
    values: tuple[float | None, ...]

    @property
    def is_at_work(self) -> bool:
        return (self.values[0] or 0) >= _AT_WORK

    @property
    def subject(self) -> Subject:
        return Subject(self.name, self.host_id, self.device_id, self.scope)


@dataclass(slots=True)
class PeerSurvey:
    """Collects the devices by job or host and model, and compares each with the others of its group."""

    limits: Limits
    now: datetime
    _groups: dict[tuple[str, str], list[_Peer]] = field(default_factory=dict)

    def see(self, host: HostSeen) -> None:
        host_id, scope = host.host.pk, host.name
        for device in host.devices:
            if device.kind in ACCELERATORS:
                get = device.values.get
                peer = _Peer(device.name, host_id, device.pk, scope, (get(_LOAD), get(_CLOCK)))
                self._groups.setdefault((_company(device), device.model), []).append(peer)

    def signs(self) -> Iterator[tuple[Subject, Sign]]:
        for (company, _), members in self._groups.items():
            spreads = self._spreads(members)
            for peer in members:
                sign = self._of(peer, spreads, company) if spreads and peer.is_at_work else UNKNOWN
                if sign is not None:
                    yield peer.subject, sign

    def _spreads(self, members: Sequence[_Peer]) -> list[Spread | None]:
        """Return the spread of each metric among those at work; none where they are too few, or not under load."""
        at_work = [peer.values for peer in members if peer.is_at_work]
        columns = [[value for value in column if value is not None] for column in zip(*at_work, strict=True)]
        found = [Spread.of(column) if len(column) >= self.limits["devices"] else None for column in columns]
        return found if found and found[0] is not None and found[0].median >= self.limits["load_ratio"] else []

    def _of(self, peer: _Peer, spreads: Sequence[Spread | None], company: str) -> Sign | None:
        is_clear = True
        for number, (value, spread) in enumerate(zip(peer.values, spreads, strict=True)):
            if value is None or spread is None:
                continue
            shortfall = spread.shortfall(value)
            if shortfall >= self.limits["shortfall_ratio"] and spread.robust_z(value) <= -self.limits["deviations"]:
                return _sign(number, value, spread, company)
            is_clear &= shortfall < self.limits["clear_shortfall_ratio"]
        return None if is_clear else BETWEEN


def _sign(number: int, value: float, spread: Spread, company: str) -> Sign:
    metric, words, unit = _METRICS[number]
    shortfall = spread.shortfall(value)
    text = (
        f"{words} {units.quantity(value, unit)}, {units.quantity(shortfall, 'ratio')} below the median "
        f"of {spread.n} devices of {company}"
    )
    proof = {
        metric: value,
        f"median_of_peers_{unit}": spread.median,
        "shortfall_ratio": round(shortfall, 4),
        "robust_z": round(spread.robust_z(value), 1),
        "devices": spread.n,
    }
    return raised(text, proof)


def _company(device: DeviceSeen) -> str:
    """Return what devices do the same work by: their Slurm job, else their user on this host, where it is known."""
    host = device.host.host.name
    if not device.processes:
        return host
    job = next((process["slurm_job"] for process in device.processes if process["slurm_job"]), "")
    user = device.processes[0]["user"]
    return f"Slurm job {job}" if job else f"{user} on {host}" if user else host


RULE = Rule(
    "below_peers", "Below its peers", Severity.WARNING,
    "SM clock and utilisation against devices of the same job, or user and host",
    "compare temperature, power limit and clock event reasons with its peers; run a reference job on it alone", PeerSurvey,
    scope=Scope.FLEET,
    own_thresholds=(
        Threshold("devices", "devices at work at least", "count", 4, 3, 1000),
        Threshold("load_ratio", "utilisation of the peers from", "ratio", 0.5, 0.05, 1),
        Threshold("deviations", "robust deviations below from", "count", 5, 2, 100),
        Threshold("shortfall_ratio", "and below by", "ratio", 0.08, 0.01, 1),
        Threshold("clear_shortfall_ratio", "clear up to", "ratio", 0.04, 0.005, 1),
    ),
    for_seconds=300, clear_seconds=180,
)  # fmt: skip
