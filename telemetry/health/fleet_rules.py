"""Rules of the whole: the power of fleet and clusters, and the server's hearing. Data for rules.py; asks no database."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from fleet import units
from fleet.models import DeviceKind, Severity
from telemetry.catalog import AbsentReason
from telemetry.health.rule import BETWEEN, UNKNOWN, Limits, Rule, Scope, Sign, Threshold, raised
from telemetry.health.seen import ENOUGH_HOSTS, SERVER, DeviceSeen, HostSeen, Subject

_FLEET = Subject("fleet")
_POWER = "power_draw_watts"
_NEVER_GIVEN = frozenset({AbsentReason.NOT_SUPPORTED.value, AbsentReason.NO_PERMISSION.value})


@dataclass(slots=True)
class _Sum:
    """Power that is known, and the hosts whose power is not; those that offer none, or only a part, stand apart."""

    watts: float = 0.0
    n_unknown: int = 0
    n_without: int = 0
    n_partly: int = 0

    def add(self, host: "_Metered") -> None:
        known = [watts for watts in host.watts if watts is not None]
        if len(known) < len(host.watts):
            self.n_unknown += 1
        else:
            self.watts += sum(known)
        self.n_without += not host.watts
        self.n_partly += host.is_partly

    def proof(self, budget: float) -> dict[str, float | None]:
        return {
            _POWER: self.watts,
            "budget_watts": budget,
            "hosts_unknown": self.n_unknown or None,
            "hosts_without_power": self.n_without or None,
            "hosts_measured_in_part": self.n_partly or None,
        }


@dataclass(slots=True)
class PowerSurvey:
    """Sums the power of each cluster that has a budget, and of the fleet where it has one."""

    limits: Limits
    now: datetime
    _sums: dict[str, _Sum] = field(default_factory=dict)

    def see(self, host: HostSeen) -> None:
        metered = _metered(host)
        for key in ("watts", f"watts:{host.host.cluster}"):
            if key in self.limits:
                self._sums.setdefault(key, _Sum()).add(metered)

    def signs(self) -> Iterator[tuple[Subject, Sign]]:
        for key, found in self._sums.items():
            cluster = key.partition(":")[2]
            sign = self._of(found, self.limits[key])
            if sign is not None:
                yield (Subject(f"cluster:{cluster}") if cluster else _FLEET), sign

    def _of(self, found: _Sum, budget: float) -> Sign | None:
        """What is known may be too much already; it is little enough only where all is known."""
        if found.watts >= budget:
            words = f"draws {units.quantity(found.watts, 'watts')} of a budget of {units.quantity(budget, 'watts')}"
            return raised(words, found.proof(budget))
        if found.n_unknown:
            return UNKNOWN
        return BETWEEN if found.watts > budget * self.limits["clear_ratio"] else None


class _Metered(NamedTuple):
    """The power of each device of a host that is summed, None where it is not known now; none where the host offers none."""

    watts: list[float | None]
    is_partly: bool = False


def _metered(host: HostSeen) -> _Metered:
    """Ask the node's meter, which holds its devices; else its accelerators; where it has none, its CPUs.

    A device that never gives its power would leave the sum unknown for ever: it stands outside.
    """
    if host.is_silent:
        return _Metered([None])
    node = host.node
    if node is not None and _POWER in node.values:
        return _Metered([node.values[_POWER]])
    accelerators = [device for device in host.devices if device.is_accelerator]
    counted = accelerators or [device for device in host.devices if device.kind == DeviceKind.CPU]
    offering = [device for device in counted if _offers_power(device)]
    if not offering and node is not None and _offers_power(node):
        return _Metered([None])
    return _Metered([device.values.get(_POWER) for device in offering], 0 < len(offering) < len(counted))


def _offers_power(device: DeviceSeen) -> bool:
    """Tell whether the device gives its power, or would if nothing were wrong: one that is lost says nothing of it."""
    if _POWER in device.values:
        return True
    reason = device.absent.get(_POWER)
    return reason not in _NEVER_GIVEN if reason else not device.is_read


@dataclass(slots=True)
class HearingSurvey:
    """Counts the hosts that are silent: where all are, the server is asked about, and not each of them."""

    limits: Limits
    now: datetime
    _n_hosts: int = 0
    _n_silent: int = 0

    def see(self, host: HostSeen) -> None:
        self._n_hosts += 1
        self._n_silent += host.is_silent

    def signs(self) -> Iterator[tuple[Subject, Sign]]:
        if self._n_hosts >= ENOUGH_HOSTS and self._n_silent == self._n_hosts:
            yield SERVER, raised(f"nothing is heard of any of {self._n_hosts} hosts", {"hosts": self._n_hosts})


RULES = (
    Rule(
        "power_budget", "Power budget", Severity.WARNING,
        "The nodes' meters, else the power of their accelerators, else of their CPUs, summed",
        "lower power limits, or let jobs wait", PowerSurvey, scope=Scope.FLEET,
        own_thresholds=(
            Threshold("watts", "budget", "watts", None, 1, 1e10, by_cluster=True),
            Threshold("clear_ratio", "clear up to this share of it", "ratio", 0.97, 0.1, 1),
        ),
        for_seconds=60,
    ),
    Rule(
        "nothing_heard", "Nothing is heard", Severity.CRITICAL, "When the newest batch of any host was stored",
        "see /readyz: the broker, the ingest worker and its queue, the network to the hosts", HearingSurvey,
        scope=Scope.FLEET, for_seconds=20, clear_seconds=0,
    ),
)  # fmt: skip
