"""The only place that turns base units into words for people: numbers with their unit, durations, ages.

Called by the template tags, the commands and the chart figures; pure, imports nothing of Django.
"""

import math
from dataclasses import dataclass
from datetime import UTC, datetime

UNKNOWN = "—"
_NARROW_GAP = "\N{NARROW NO-BREAK SPACE}"
_DIGITS = 3


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number and its unit, ready to be shown; the unit is "" where there is none."""

    number: str
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.number}{_NARROW_GAP}{self.unit}" if self.unit else self.number


Ladder = tuple[tuple[float, str], ...]
"""(size in base units, name), ascending; the largest that fits is used, the first one for everything below."""

_LADDERS: dict[str, Ladder] = {
    "watts": ((1, "W"), (1e3, "kW"), (1e6, "MW")),
    # What a table holds in kWh is not told in kJ beside it: from a tenth of one on.
    "joules": ((1, "J"), (1e3, "kJ"), (3.6e5, "kWh"), (3.6e9, "MWh")),
    "bytes": ((1, "B"), (2**10, "KiB"), (2**20, "MiB"), (2**30, "GiB"), (2**40, "TiB")),
    # Clocks are compared in MHz, as every vendor tool prints them.
    "hertz": ((1e6, "MHz"), (1e10, "GHz")),
    "ratio": ((0.01, "%"),),
    "celsius": ((1, "°C"),),
    "seconds": ((1e-6, "µs"), (1e-3, "ms"), (1, "s"), (120, "min"), (7200, "h")),
    "flop": ((1, "FLOP"), (1e6, "MFLOP"), (1e9, "GFLOP"), (1e12, "TFLOP"), (1e15, "PFLOP")),
    "flop_per_second": ((1, "FLOP/s"), (1e6, "MFLOP/s"), (1e9, "GFLOP/s"), (1e12, "TFLOP/s"), (1e15, "PFLOP/s")),
    "samples_per_second": ((1, "samples/s"), (1e4, "k samples/s")),
    "tokens_per_second": ((1, "tok/s"), (1e4, "k tok/s"), (1e7, "M tok/s")),
    "samples_per_joule": ((1e-3, "samples/kJ"), (0.01, "samples/J")),
    "tokens_per_joule": ((1e-3, "tok/kJ"), (0.01, "tok/J")),
    "joules_each": ((1e-3, "mJ"), (0.1, "J"), (1e3, "kJ"), (1e6, "MJ")),  # of a step, of a token
    "grams": ((1, "g"), (1e3, "kg"), (1e6, "t")),
    "bitmask": ((1, ""),),
    "generation": ((1, ""),),
    "lanes": ((1, "lanes"),),
    # Links are sold in decimal units, memory is not.
    "bytes_per_second": ((1, "B/s"), (1e3, "kB/s"), (1e6, "MB/s"), (1e9, "GB/s")),
    **dict.fromkeys(("count", "errors", "rows", "replays", "batches", "frames", "flag", "code"), ((1, ""),)),
}
# The rungs at which a unit takes over but whose own size is another: two minutes stay "120 s" until they are reached.
_SIZES = {
    ("joules", "kWh"): 3.6e6,
    ("seconds", "min"): 60.0,
    ("seconds", "h"): 3600.0,
    ("hertz", "GHz"): 1e9,
    ("samples_per_second", "k samples/s"): 1e3,
    ("tokens_per_second", "k tok/s"): 1e3,
    ("tokens_per_second", "M tok/s"): 1e6,
    ("samples_per_joule", "samples/J"): 1.0,
    ("tokens_per_joule", "tok/J"): 1.0,
    ("joules_each", "J"): 1.0,
}

_CHART_LADDERS: dict[str, Ladder] = {
    "joules": ((1, "J"), (1e3, "kJ"), (3.6e6, "kWh"), (3.6e9, "MWh")),
    "bytes": ((2**20, "MiB"), (2**30, "GiB"), (2**40, "TiB")),
    "hertz": ((1e6, "MHz"),),
    "seconds": ((1e-3, "ms"), (1, "s")),
    "samples_per_second": ((1, "samples/s"), (1e3, "k samples/s")),
    "tokens_per_second": ((1, "tok/s"), (1e3, "k tok/s"), (1e6, "M tok/s")),
    "joules_each": ((1, "J"), (1e3, "kJ"), (1e6, "MJ")),
}


def signed(value: float | None, digits: int = 1) -> str:
    """Return the number with its sign and so many decimals: "+1.8", "−0.2", "±0.0"; "—" where it is unknown."""
    if value is None:
        return UNKNOWN
    text = f"{abs(value):.{digits}f}"
    sign = "±" if float(text) == 0 else "+" if value > 0 else "−"
    return f"{sign}{text}"


def number(value: float, digits: int = _DIGITS) -> str:
    """Return the number with `digits` significant figures (all of its whole figures), comma thousands, true minus."""
    if not math.isfinite(value):
        return "not finite"
    rounded = _significant(value, digits)
    decimals = 0
    # A whole number stays one: a meter that gives 64 °C did not give 64.0.
    if not math.isclose(value, round(value), rel_tol=1e-9):
        decimals = max(0, digits - 1 - math.floor(math.log10(abs(rounded))))
    return f"{rounded:,.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def quantity(value: float | None, unit: str) -> Quantity:
    """Return the value of a base unit in the unit that people read. An unknown unit's name is shown as it is."""
    if value is None:
        return Quantity(UNKNOWN)
    if not math.isfinite(value):
        return Quantity(number(value))
    ladder = _LADDERS.get(unit, ((1, unit),))
    rounded = abs(_significant(value, _DIGITS))
    starts = [start for start, _ in ladder]
    rung = max((i for i, start in enumerate(starts) if rounded >= start), default=0)
    if rounded == 0 and 1 in starts:  # nothing is as little in any unit: it is told in the base unit
        rung = starts.index(1)
    start, name = ladder[rung]
    return Quantity(number(value / _SIZES.get((unit, name), start)), name)


def chart_ladder(unit: str) -> list[tuple[float, str]]:
    """Return the (size, name) pairs from which a chart picks one for its whole axis, by its greatest value."""
    return list(_CHART_LADDERS.get(unit, _LADDERS.get(unit, ((1, unit),))))


def count(value: float | None) -> str:
    """Return a whole number with comma thousands."""
    return UNKNOWN if value is None else f"{value:,.0f}".replace("-", "\N{MINUS SIGN}")


def duration(seconds: float | None) -> str:
    """Return a length of time in its two greatest units: "350 ms", "12.3 s", "2 min 5 s", "3 h 12 min", "41 d 6 h"."""
    if seconds is None:
        return UNKNOWN
    if seconds < 60:
        return str(quantity(seconds, "seconds"))
    for size, name, smaller_size, smaller in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            great, rest = divmod(int(seconds), size)
            small = rest // smaller_size
            head = str(Quantity(f"{great:,}", name))
            return f"{head} {Quantity(str(small), smaller)}" if small else head
    raise AssertionError("unreachable: at least a minute")


def utc(moment: datetime) -> str:
    """Return "2026-11-23 16:04:39 UTC"."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _significant(value: float, digits: int) -> float:
    """Round to significant figures; whole figures are never rounded away."""
    if value == 0:
        return 0.0
    return round(value, max(0, digits - 1 - math.floor(math.log10(abs(value)))))
