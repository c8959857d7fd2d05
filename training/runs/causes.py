"""Why a step, or a rank, was slow: what was seen of its device, its host and its phases in that time, and what may be why.

Pure: judges evidence that cause_evidence.py gathers. A cause is named with what was seen of it; where nothing was, that is said,
and so is what could not be seen. What was as usual before is no cause.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from fleet import units
from fleet.models import Severity
from telemetry.nvidia import clock_events, xid

POWER_CAP, HARDWARE, SOFTWARE_HEAT, HARDWARE_HEAT, POWER_BRAKE = 0x4, 0x8, 0x20, 0x40, 0x80
_SLOWED = {HARDWARE_HEAT: 0.95, SOFTWARE_HEAT: 0.93, POWER_BRAKE: 0.92, HARDWARE: 0.90}
_MORE_OF_THE_TIME = 0.2  # by which a clock event reason must have held longer than before
_CLOCK_FELL = 0.05
_PRESSURE = 0.10  # of the time in which some task waited, beyond what was usual
_CPU_BUSY = 0.95


class Reading(NamedTuple):
    """A value in the time in question and before it, in base units; None where it is not known."""

    during: float | None
    before: float | None = None

    @property
    def more(self) -> float | None:
        """Return by how much it was more than before; all of it where it is not known what was before."""
        return None if self.during is None else self.during - (self.before or 0.0)


_UNKNOWN = Reading(None)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen. `gauges` are means and `growths` growths (before: of a time as long) by the catalogue's names.

    `reasons` is the share of time by clock event reason (its bit); `xids` are None where nobody could hear them, and `others`
    (programs of others on the device) where it is not known who used it. `excess_seconds` is how much longer the step took
    than usual, `data_excess_seconds` how much longer it waited for data; None where it is not told. `beside` is what the second
    values are: those before, or those of the other devices in the same time.
    """

    device: str = ""
    gauges: Mapping[str, Reading] = field(default_factory=dict)
    growths: Mapping[str, Reading] = field(default_factory=dict)
    reasons: Mapping[int, Reading] | None = None
    xids: tuple[int, ...] | None = None
    others: tuple[str, ...] | None = None
    excess_seconds: float | None = None
    data_excess_seconds: float | None = None
    beside: str = "before"

    def gauge(self, name: str) -> Reading:
        return self.gauges.get(name, _UNKNOWN)

    def growth(self, name: str) -> Reading:
        return self.growths.get(name, _UNKNOWN)


class Cause(NamedTuple):
    """`name` names it for programs, `words` for people; `weight` (0–1) orders causes, and is no probability."""

    name: str
    words: str
    evidence: str
    weight: float
    device: str = ""


@dataclass(frozen=True, slots=True)
class Causes:
    """What may be why, the likeliest first; `unseen` is what could not be looked at."""

    found: tuple[Cause, ...]
    unseen: tuple[str, ...]

    @property
    def likeliest(self) -> Cause | None:
        return self.found[0] if self.found else None

    @property
    def words(self) -> str:
        if self.likeliest is not None:
            return self.likeliest.words
        return "no cause seen" + (f" (not known: {', '.join(self.unseen)})" if self.unseen else "")


def causes(evidence: Evidence) -> Causes:
    """Return what may be why, by the weight of what was seen."""
    found = [cause._replace(device=evidence.device) for look in _LOOKS for cause in look(evidence)]
    return Causes(tuple(sorted(found, key=lambda each: -each.weight)), tuple(_unseen(evidence)))


def _data(seen: Evidence) -> Iterator[Cause]:
    if seen.data_excess_seconds is None or not seen.excess_seconds or seen.excess_seconds <= 0:
        return
    share = seen.data_excess_seconds / seen.excess_seconds
    if share >= 0.5:
        words = f"waited {units.duration(seen.data_excess_seconds)} longer for data, {min(share, 1.0):.0%} of the delay"
        yield Cause("data", "waited for data", words, 0.97)


def _xids(seen: Evidence) -> Iterator[Cause]:
    for code in dict.fromkeys(seen.xids or ()):
        row = xid.of_code(code)
        weight = 0.6 if row.severity == Severity.INFO else 0.99
        yield Cause("xid", f"XID {code}: {row.name}", f"XID {code} in this time; {row.action.words}", weight)


def _memory_errors(seen: Evidence) -> Iterator[Cause]:
    for name, words, weight in (
        ("ecc_uncorrected_total", "uncorrected memory errors", 0.98),
        ("ecc_corrected_total", "corrected memory errors", 0.45),
    ):
        more = seen.growth(name).more
        if more is not None and more >= 1:
            yield Cause("ecc", words, f"{units.count(more)} more than {seen.beside}", weight)


def _slowed_clock(seen: Evidence) -> Iterator[Cause]:
    for bit, weight in _SLOWED.items():
        more = (seen.reasons or {}).get(bit, _UNKNOWN).more
        if more is not None and more >= _MORE_OF_THE_TIME / 2:
            (name,) = clock_events.names(bit)
            held = _share(seen, (seen.reasons or {})[bit])
            yield Cause(
                "clock", f"slowed: {name}", "; ".join(filter(None, [held, *_clock(seen), *_heat(seen)])), weight
            )


def _power_cap(seen: Evidence) -> Iterator[Cause]:
    reading = (seen.reasons or {}).get(POWER_CAP, _UNKNOWN)
    if reading.more is not None and reading.more >= _MORE_OF_THE_TIME and _clock_fell(seen):
        limit = seen.gauge("power_limit_watts").during
        words = "" if limit is None else f"limit {units.quantity(limit, 'watts')}"
        yield Cause(
            "power",
            "slowed by the power cap",
            "; ".join(filter(None, [_share(seen, reading), *_clock(seen), words])),
            0.75,
        )


def _others(seen: Evidence) -> Iterator[Cause]:
    if seen.others:
        yield Cause("others", "another program on the device", ", ".join(seen.others), 0.85)


def _clock_only(seen: Evidence) -> Iterator[Cause]:
    if _clock_fell(seen):
        yield Cause("clock", "its clock fell", "; ".join([*_clock(seen), *_heat(seen)]), 0.65)


def _links(seen: Evidence) -> Iterator[Cause]:
    for name, words, weight in (
        ("pcie_replay_total", "PCIe replays", 0.70),
        ("nvlink_errors_total", "NVLink errors", 0.72),
    ):
        more = seen.growth(name).more
        if more is not None and more >= 1:
            yield Cause("link", words, f"{units.count(more)} more than {seen.beside}", weight)
    for name, words in (("pcie_link_width", "lanes"), ("pcie_link_generation", "generation")):
        now = seen.gauge(name)
        if now.during is not None and now.before is not None and now.during < now.before:
            evidence = f"PCIe {words} {units.number(now.during)}, {seen.beside} {units.number(now.before)}"
            yield Cause("link", "a narrower or slower PCIe link", evidence, 0.80)


def _host(seen: Evidence) -> Iterator[Cause]:
    for name, words, weight in (
        ("host_memory_pressure_ratio", "the host short of memory", 0.82),
        ("host_io_pressure_ratio", "the host's disks", 0.66),
        ("host_cpu_pressure_ratio", "the host short of CPU", 0.62),
    ):
        reading = seen.gauge(name)
        if reading.more is not None and reading.more >= _PRESSURE:
            yield Cause("host", words, f"tasks waited {_share(seen, reading)}", weight)
    busy = seen.gauge("host_cpu_utilization_ratio")
    if busy.during is not None and busy.during >= _CPU_BUSY and (busy.before or 0.0) < _CPU_BUSY - 0.1:
        yield Cause("host", "the host's CPUs were all busy", f"busy {_share(seen, busy)}", 0.55)


_LOOKS: tuple[Callable[[Evidence], Iterator[Cause]], ...] = (
    _data, _xids, _memory_errors, _slowed_clock, _power_cap, _others, _clock_only, _links, _host,
)  # fmt: skip


def _clock_fell(seen: Evidence) -> bool:
    clock = seen.gauge("sm_clock_hertz")
    return clock.during is not None and bool(clock.before) and clock.during < (1 - _CLOCK_FELL) * (clock.before or 0.0)


def _clock(seen: Evidence) -> list[str]:
    clock = seen.gauge("sm_clock_hertz")
    if clock.during is None:
        return []
    before = "" if clock.before is None else f", {seen.beside} {units.quantity(clock.before, 'hertz')}"
    return [f"SM clock {units.quantity(clock.during, 'hertz')}{before}"]


def _heat(seen: Evidence) -> list[str]:
    found = []
    for name, words in (("temperature_celsius", "GPU"), ("memory_temperature_celsius", "memory")):
        value = seen.gauge(name).during
        if value is not None:
            found.append(f"{words} {units.quantity(value, 'celsius')}")
    return found


def _share(seen: Evidence, reading: Reading) -> str:
    before = "" if reading.before is None else f", {seen.beside} {reading.before:.0%}"
    return f"{reading.during or 0.0:.0%} of the time{before}"


def _unseen(seen: Evidence) -> Iterator[str]:
    if seen.reasons is None:
        yield "clock event reasons"
    if seen.xids is None:
        yield "XIDs"
    if seen.others is None:
        yield "other programs on the device"
    if seen.data_excess_seconds is None:
        yield "time spent waiting for data"
    for name, words in (
        ("sm_clock_hertz", "SM clock"),
        ("temperature_celsius", "temperature"),
        ("host_cpu_pressure_ratio", "CPU pressure"),
        ("host_memory_pressure_ratio", "memory pressure"),
    ):
        if seen.gauge(name).during is None:
            yield words
    for name, words in (("pcie_replay_total", "PCIe replays"), ("ecc_uncorrected_total", "memory errors")):
        if seen.growth(name).during is None:
            yield words
