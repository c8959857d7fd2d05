"""Rules of the whole: the power of fleet and clusters, the server's hearing and its disk. Data for rules.py; asks no database."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from django.conf import settings

from fleet import units
from fleet.models import Severity
from telemetry.health.rule import BETWEEN, UNKNOWN, Limits, Rule, Scope, Sign, Threshold, raised
from telemetry.health.seen import ENOUGH_HOSTS, HostSeen, Subject

_FLEET, SERVER = Subject("fleet"), Subject("server")


@dataclass(slots=True)
class _Sum:
    """Power that is known, and the hosts whose power is not."""

    watts: float = 0.0
    n_unknown: int = 0

    def add(self, watts: float | None) -> None:
        if watts is None:
            self.n_unknown += 1
        else:
            self.watts += watts


@dataclass(slots=True)
class PowerSurvey:
    """Sums the power of each cluster that has a budget, and of the fleet where it has one."""

    limits: Limits
    now: datetime
    _sums: dict[str, _Sum] = field(default_factory=dict)

    def see(self, host: HostSeen) -> None:
        watts = _watts(host)
        for key in ("watts", f"watts:{host.host.cluster}"):
            if key in self.limits:
                self._sums.setdefault(key, _Sum()).add(watts)

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
            proof = {"power_draw_watts": found.watts, "budget_watts": budget, "hosts_unknown": found.n_unknown or None}
            return raised(words, proof)
        if found.n_unknown:
            return UNKNOWN
        return BETWEEN if found.watts > budget * self.limits["clear_ratio"] else None


def _watts(host: HostSeen) -> float | None:
    """Return the node's power, which holds its devices; else the sum of its accelerators; None where one is unknown."""
    if host.node is not None and "power_draw_watts" in host.node.values:
        return host.node.values["power_draw_watts"]
    found = [device.values.get("power_draw_watts") for device in host.devices if device.is_accelerator]
    known = [watts for watts in found if watts is not None]
    return sum(known) if known and len(known) == len(found) else None


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


@dataclass(slots=True)
class DiskSurvey:
    """Looks at the disk that the data directory lies on."""

    limits: Limits
    now: datetime
    directory: Path = field(default_factory=lambda: settings.STEPWATT_DATA_DIR)

    def see(self, host: HostSeen) -> None:
        """A host's disk is not told by its agent."""

    def signs(self) -> Iterator[tuple[Subject, Sign]]:
        try:
            usage = shutil.disk_usage(self.directory)
        except OSError:
            yield SERVER, UNKNOWN
            return
        share = usage.used / (usage.used + usage.free)
        if share >= self.limits["used_ratio"]:
            grave = Severity.CRITICAL if share >= self.limits["critical_ratio"] else None
            words = f"the disk of its data is {units.quantity(share, 'ratio')} full"
            yield SERVER, raised(words, {"used_ratio": share, "free_bytes": usage.free}, severity=grave)
        elif share > self.limits["clear_used_ratio"]:
            yield SERVER, BETWEEN


RULES = (
    Rule(
        "power_budget", "Power budget", Severity.WARNING, "The nodes' meters, else their accelerators' power, summed.",
        "lower power limits, or let jobs wait", PowerSurvey, scope=Scope.FLEET,
        own_thresholds=(
            Threshold("watts", "budget", "watts", None, 1, 1e10, by_cluster=True),
            Threshold("clear_ratio", "clear up to this share of it", "ratio", 0.97, 0.1, 1),
        ),
        for_seconds=60,
    ),
    Rule(
        "nothing_heard", "Nothing is heard", Severity.CRITICAL, "When the newest batch of any host was stored.",
        "see /readyz: the broker, the ingest worker and its queue, the network to the hosts", HearingSurvey,
        scope=Scope.FLEET, for_seconds=20, clear_seconds=0,
    ),
    Rule(
        "disk_full", "Disk nearly full", Severity.WARNING, "The disk of the server's data directory.",
        "free space, give it more, or shorten the retention of raw samples", DiskSurvey, scope=Scope.FLEET,
        own_thresholds=(
            Threshold("used_ratio", "full from", "ratio", 0.9, 0.1, 1),
            Threshold("clear_used_ratio", "clear up to", "ratio", 0.87, 0.05, 1),
            Threshold("critical_ratio", "critical from", "ratio", 0.97, 0.1, 1),
        ),
    ),
)  # fmt: skip
