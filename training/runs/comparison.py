"""Two runs beside each other: by step number, and figure by figure. Called by the run page; asks nothing.

Runs begin at different times and go on for different ones: what they share is the number of a step.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from telemetry.charts import traces
from telemetry.charts.figures import Key, as_json, figure, line
from telemetry.store.read import column
from training.runs.charts import Drawn
from training.steps.columns import Floats, StepColumns
from training.steps.grid import trained

_COLUMNS = 481
_ALIKE = 0.005
_GAP = "\N{NARROW NO-BREAK SPACE}"


@dataclass(frozen=True, slots=True)
class Compared:
    """A chart of both runs: its column of the steps, label and base unit."""

    key: str
    label: str
    unit: str

    @property
    def id(self) -> str:
        return f"fig-compare-{self.key}"


CHARTS = (Compared("seconds", "Step time", "seconds"), Compared("loss", "Loss", ""))


class ByNumber(NamedTuple):
    """Means of the training steps by number, in at most so many columns; `numbers` are the first of each."""

    numbers: Floats
    values: dict[str, Floats]


def by_number(steps: StepColumns, columns: int = _COLUMNS) -> ByNumber:
    """Return a run's step times (seconds) and losses by step number, in at most `columns` means; NaN where none was told."""
    train = trained(steps)
    if not len(train):
        return ByNumber(np.empty(0), {chart.key: np.empty(0) for chart in CHARTS})
    first, last = int(train.number.min()), int(train.number.max())
    width = max(1, -(-(last - first + 1) // columns))
    place = (train.number - first) // width
    n = int(place.max()) + 1
    values = {}
    for chart in CHARTS:
        told: Floats = getattr(train, chart.key)
        known = ~np.isnan(told)
        count = np.bincount(place[known], minlength=n)
        total = np.bincount(place[known], told[known], minlength=n)
        values[chart.key] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return ByNumber(first + np.arange(n, dtype=np.float64) * width, values)


def compare_figure(chart: Compared, own: str, other: str, *, shows_ticks: bool) -> Drawn:
    keys = [Key(own, "s1", [1]), Key(other, "s2", [0])]
    lines = [line("s2", dash="dash"), line("s1")]
    return as_json(
        figure(
            lines, unit=chart.unit, keys=keys, is_time=False, is_stacked=True, from_zero=False,
            shows_ticks=shows_ticks, painter="uplot",
        )
    )  # fmt: skip


def compare_arrays(own: StepColumns, other: StepColumns) -> Drawn:
    """Return the answer that fills both charts; the axis spans the numbers of both runs."""
    found = [by_number(other), by_number(own)]
    numbers = np.concatenate([each.numbers for each in found])
    charts = {
        chart.id: {
            "traces": [{"x": each.numbers.tolist(), **traces.line(column(each.values[chart.key]))} for each in found]
        }
        for chart in CHARTS
    }
    low, high = (float(numbers.min()), float(numbers.max())) if numbers.size else (0.0, 1.0)
    room = 0.5 if low == high else 0.0  # of one step alone
    return {"range": [low - room, high + room], "charts": charts}


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure of both runs; `tone` is up where this run is better, down where it is worse, flat where neither is said."""

    label: str
    unit: str
    own: float | None
    other: float | None
    why_own: str
    why_other: str
    less_is_better: bool | None = None

    @property
    def ratio(self) -> float | None:
        return self.own / self.other - 1 if self.own is not None and self.other else None

    @property
    def difference(self) -> str:
        """Return "+12.0 %"; of shares the difference in points; "" where either is unknown."""
        if self.own is None or self.other is None or self.ratio is None:
            return ""
        if self.unit == "ratio":
            return f"{_signed((self.own - self.other) * 100)}{_GAP}pp"
        return f"{_signed(self.ratio * 100)}{_GAP}%"

    @property
    def tone(self) -> str:
        if self.ratio is None or self.less_is_better is None or abs(self.ratio) < _ALIKE:
            return "flat"
        return "up" if (self.ratio < 0) is self.less_is_better else "down"


def _signed(value: float) -> str:
    """Return "+12.0", "±0.0" or "−3.2"."""
    sign = "±" if abs(value) < 0.05 else "+" if value > 0 else "\N{MINUS SIGN}"
    return f"{sign}{abs(value):.1f}"
