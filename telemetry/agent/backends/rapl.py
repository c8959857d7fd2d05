"""Energy of the processor packages or of the whole platform, from the kernel's powercap (RAPL). No Django, no torch.

Called by the backends of the CPU (domains "package-…") and of the node (domain "psys", which few machines have).
"""

from dataclasses import dataclass
from pathlib import Path

from telemetry.agent.backends.kernel import read_number, why_unreadable
from telemetry.agent.backends.protocol import Reading
from telemetry.catalog import AbsentReason

# RAPL's registers wrap after 65 kJ at the least, and start again after a suspend: a longer silence hides both.
_LONGEST_GAP_SECONDS = 60.0
METRICS = ("power_draw_watts", "energy_joules_total")
# The registers move once a millisecond: over a shorter time than this their difference is noise.
_SHORTEST_GAP_SECONDS = 0.02


@dataclass(slots=True)
class _Domain:
    """One processor package in powercap: its register and where that wraps, in microjoules."""

    path: Path
    wrap: int
    last: int

    def advance(self, now: int) -> int:
        """Return the microjoules from the last register value to this one."""
        used = now - self.last if now >= self.last else now + self.wrap - self.last
        self.last = now
        return used


class Energy:
    """The top domains whose name begins with `domain`, summed: joules since `start`, so that a restart is a plain reset."""

    def __init__(self, sys: Path, domain: str) -> None:
        self._sys, self._domain = sys, domain

    def start(self, now: float) -> None:
        self._joules, self._since = 0.0, now
        self._domains: list[_Domain] = []
        self._absent: AbsentReason | None = None
        try:
            self._domains = [_domain(path) for path in _domains(self._sys, self._domain)]
        except (OSError, ValueError) as error:
            self._absent = why_unreadable(error)

    @property
    def is_there(self) -> bool:
        """Return whether the kernel tells of such a domain; else `absent` stands until the next `start`."""
        return bool(self._domains)

    def absent(self) -> dict[str, Reading]:
        """Return why there are no readings, nothing where there are."""
        return {} if self._domains else dict.fromkeys(METRICS, self._absent or AbsentReason.NOT_SUPPORTED)

    def readings(self, now: float) -> dict[str, Reading]:
        """Return power since the last time, and energy since `start`."""
        return dict(zip(METRICS, self._read(now), strict=True))

    def _read(self, now: float) -> tuple[Reading, Reading]:
        elapsed = now - self._since
        if elapsed < _SHORTEST_GAP_SECONDS:
            return AbsentReason.UNKNOWN, self._joules
        try:
            registers = [read_number(domain.path) for domain in self._domains]
        except (OSError, ValueError) as error:
            return why_unreadable(error), why_unreadable(error)
        self._since = now
        used = (domain.advance(register) for domain, register in zip(self._domains, registers, strict=True))
        joules = sum(used) / 1e6
        if elapsed > _LONGEST_GAP_SECONDS:
            return AbsentReason.UNKNOWN, self._joules
        self._joules += joules
        return joules / elapsed, self._joules


def _domains(sys: Path, name: str) -> list[Path]:
    """Return the folders of the domains of that name, without their parts (core, uncore, dram)."""
    folders = sorted(sys.glob("class/powercap/intel-rapl:*"))
    return [folder for folder in folders if (folder / "name").read_text().startswith(name)]


def _domain(folder: Path) -> _Domain:
    register = folder / "energy_uj"
    return _Domain(register, wrap=read_number(folder / "max_energy_range_uj"), last=read_number(register))
