"""Prometheus' two text formats: families of finished sample lines, and their headers in either format.

Called by the exposition, the DCGM names and training's families; knows no metric, no model and no request. Lines are the
same in both formats: only headers and the end differ.
Sources: Prometheus exposition format 0.0.4; OpenMetrics 1.0.0.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
OPENMETRICS_END = "# EOF\n"

_EXACT_INTEGERS = 2.0**53


class Type(Enum):
    """A family's type as (text format, OpenMetrics, suffix of its samples)."""

    GAUGE = ("gauge", "gauge", "")
    COUNTER = ("counter", "counter", "_total")
    BARE_COUNTER = ("counter", "unknown", "")  # a foreign counter without _total: OpenMetrics has no type for it
    INFO = ("gauge", "info", "_info")
    HISTOGRAM = ("histogram", "histogram", "")


@dataclass(frozen=True, slots=True)
class Family:
    """Samples of one name, told apart by `labels`. `name` is without the suffix of its type."""

    name: str
    type: Type
    help: str
    labels: tuple[str, ...]
    unit: str = ""
    lines: list[str] = field(default_factory=list)

    @property
    def sample_name(self) -> str:
        return self.name + self.type.value[2]

    def add(self, label_text: str, value: str) -> None:
        """Add a sample; both texts come from `label_text` and `number_text`."""
        self.lines.append(f"{self.sample_name}{{{label_text}}} {value}\n")

    def add_histogram(self, label_text: str, cumulative: Sequence[tuple[float, int]], count: int, total: float) -> None:
        """Add a histogram; `cumulative` holds (upper bound, samples up to it), ascending, without +Inf."""
        for bound, so_far in (*((repr(float(b)), n) for b, n in cumulative), ("+Inf", count)):
            self.lines.append(f'{self.name}_bucket{{{label_text},le="{bound}"}} {so_far}\n')
        self.lines.append(f"{self.name}_sum{{{label_text}}} {number_text(total)}\n")
        self.lines.append(f"{self.name}_count{{{label_text}}} {count}\n")


def label_text(names: Iterable[str], values: Iterable[object]) -> str:
    """Return what stands between the braces."""
    return ",".join(f'{name}="{_escaped(str(value))}"' for name, value in zip(names, values, strict=True))


def number_text(value: float) -> str:
    """Return the shortest text that reads back as the same number; whole numbers without a point."""
    number = float(value)
    return str(int(number)) if number.is_integer() and abs(number) < _EXACT_INTEGERS else repr(number)


def render(families: Iterable[Family], *, openmetrics: bool) -> str:
    """Return the document; a family without a sample is left out."""
    parts: list[str] = []
    for family in families:
        if family.lines:
            parts.append(header(family, openmetrics=openmetrics))
            parts.extend(family.lines)
    if openmetrics:
        parts.append(OPENMETRICS_END)
    return "".join(parts)


def header(family: Family, *, openmetrics: bool) -> str:
    """Return what stands before the family's lines."""
    text_type, openmetrics_type, _ = family.type.value
    if not openmetrics:
        name = family.sample_name
        return f"# HELP {name} {_escaped_help(family.help)}\n# TYPE {name} {text_type}\n"
    unit = f"# UNIT {family.name} {family.unit}\n" if family.unit else ""
    return f"# HELP {family.name} {_escaped(family.help)}\n# TYPE {family.name} {openmetrics_type}\n{unit}"


def _escaped(text: str) -> str:
    return _escaped_help(text).replace('"', r"\"")


def _escaped_help(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")
