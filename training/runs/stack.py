"""The stack of a run's charts on one time axis: which rows it has, their figures, and the arrays that fill them.

Called by the run's views. The page writes into the arrays' address which rows it drew, so that figures and arrays fit each
other whatever has come since.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from telemetry.charts import figures
from telemetry.store.read import Bucketed
from training.runs import charts as run_charts
from training.runs import device_readings
from training.runs.charts import Drawn, Row
from training.runs.device_readings import POWER, Power, Source
from training.runs.members import Members
from training.steps import grid as step_grid
from training.steps.columns import Floats, StepColumns
from training.steps.grid import StepGrid
from training.steps.spans import Span

POINTS = 481  # columns of a chart and buckets of a series: about its width in pixels
_OF_ENERGY = {"energy", "token-energy"}
ROWS: Mapping[str, Row] = {
    "step": run_charts.STEP,
    "samples": run_charts.SAMPLES,
    "tokens": run_charts.TOKENS,
    "mfu": run_charts.MFU,
    "energy": run_charts.ENERGY,
    "token-energy": run_charts.TOKEN_ENERGY,
    "loss": run_charts.LOSS,
}


@dataclass(frozen=True, slots=True)
class Chart:
    """A row of the stack; `height` is a class of the chart."""

    id: str
    label: str
    figure: Drawn
    height: str = "medium"
    note: str = ""


@dataclass(frozen=True, slots=True)
class Stack:
    """What a stack consists of: keys of ROWS, names of phases, NAMES of telemetry.

    `device` is the UUID of the one that stands before its peers, "" where none does; `device_words` is what it is called.
    `onset_ms` is since when `slow_rank` keeps the others waiting, NaN where none does. `mfu_of` is what MFU is
    proportional to (samples, tokens), `mfu_per_rate` its ratio at one of these a second. `shared_with` names who else uses the
    devices.
    """

    rows: Sequence[str]
    phases: Sequence[str]
    metrics: Sequence[str]
    device: str = ""
    device_words: str = ""
    mfu_of: str = "samples"
    mfu_per_rate: float = np.nan
    onset_ms: float = np.nan
    slow_rank: int = 0
    shared_with: str = ""

    @property
    def columns(self) -> set[str]:
        """Return which columns of the steps its rows need."""
        wanted = {"seconds", "number", "attempt", "kind", "is_warmup"} | {"loss"} & set(self.rows)
        if {"tokens", "token-energy"} & set(self.rows):
            wanted.add("tokens")
        if "samples" in self.rows:
            wanted.add("samples")
        if "mfu" in self.rows:
            wanted.add(self.mfu_of)
        return wanted | {"phases"} if self.phases else wanted


def charts(stack: Stack, who: Members) -> Iterator[Chart]:
    """Yield the charts with their figures. The first and the last one show the times."""
    sources = device_readings.named(stack.metrics, who)
    for key in stack.rows:
        row = ROWS[key]
        if key == "step":
            label = "Step time by phase" if stack.phases else row.label
            yield Chart(row.id, label, run_charts.step_figure(stack.phases), "large")
        else:
            is_last = not sources and key == stack.rows[-1]
            note = (
                f"of the whole devices, also used by {stack.shared_with}"
                if key in _OF_ENERGY and stack.shared_with
                else ""
            )
            yield Chart(row.id, row.label, run_charts.line_figure(row, shows_ticks=is_last), note=note)
    for source in sources:
        chosen = stack.device_words if any(device.uuid == stack.device for device in source.devices) else ""
        drawn = run_charts.devices_figure(
            source.unit, len(source.devices), source.noun, chosen,
            from_zero=figures.starts_at_zero(source.metric), shows_ticks=source is sources[-1],
        )  # fmt: skip
        yield Chart(f"fig-{source.name}", source.label, drawn)


@dataclass(frozen=True, slots=True)
class Content:
    """What fills a stack: the steps of the window, who takes part, and what is marked."""

    steps: StepColumns
    who: Members
    spans: Sequence[Span]
    start_ms: int
    end_ms: int


def arrays(stack: Stack, content: Content) -> dict[str, Drawn]:
    """Return the arrays of each chart by its id, in the order of the charts."""
    start_ms, end_ms = content.start_ms, content.end_ms
    grid = step_grid.grid(content.steps, start_ms, end_ms, POINTS)
    sources = device_readings.named(stack.metrics, content.who)
    series = device_readings.series(sources, start_ms, end_ms, POINTS)
    watts = _watts(grid, sources, series)
    found: dict[str, Drawn] = {}
    for key in stack.rows:
        values = {
            "samples": grid.samples_per_second,
            "tokens": grid.tokens_per_second,
            "mfu": (grid.tokens_per_second if stack.mfu_of == "tokens" else grid.samples_per_second)
            * stack.mfu_per_rate,
            "energy": watts * grid.seconds,
            "token-energy": watts / grid.tokens_per_second,
            "loss": grid.loss,
        }.get(key)
        row = ROWS[key]
        found[row.id] = (
            run_charts.step_arrays(grid, stack.phases) if values is None else run_charts.line_arrays(grid, values)
        )
    for source in sources:
        found[f"fig-{source.name}"] = _of_devices(source, series[source.name], stack.device)
    for place, drawn in enumerate(found.values()):
        _mark(drawn, stack, content, has_words=place == 0)
    return found


def _watts(grid: StepGrid, sources: Sequence[Source], series: Mapping[str, Bucketed]) -> Floats:
    """Return the mean power of all meters during each column."""
    metered = next((source for source in sources if source.metric == POWER), None)
    if metered is None:
        return np.full(len(grid), np.nan)
    return Power.of(series[metered.name], metered).mean(grid.start_ms, grid.end_ms)


def _of_devices(source: Source, block: Bucketed, chosen: str) -> Drawn:
    found = {device.uuid: block.of(device.uuid, source.metric) for device in source.devices}
    return run_charts.device_arrays(
        block.times_ms,
        {uuid: each.mean for uuid, each in found.items()},
        [each.minimum for each in found.values()],
        [each.maximum for each in found.values()],
        chosen if chosen in found else "",
    )


def _mark(drawn: Drawn, stack: Stack, content: Content, *, has_words: bool) -> None:
    """Add what is marked to what a chart has already."""
    every = [run_charts.marks(content.spans, (content.start_ms, content.end_ms), has_words=has_words)]
    if content.start_ms < stack.onset_ms < content.end_ms:
        every.append(run_charts.onset(stack.onset_ms, f"rank {stack.slow_rank} slows" if has_words else ""))
    for name in ("shapes", "annotations"):
        drawn[name] = [each for marks in every for each in marks[name]] + drawn.get(name, [])
