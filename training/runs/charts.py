"""The charts of a run on one time axis: their plotly figures, and the arrays that fill them. Called by the run page.

Figures are handed over once, without values; arrays follow in the order of their traces. Steps stand as columns, from
where a step began to where it ended; a pause between steps stays a gap, with what the run did in it as a span.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from telemetry.charts import traces
from telemetry.charts.figures import Key, area, as_json, figure, line
from telemetry.store.read import Column, column
from training.steps.columns import Floats
from training.steps.grid import StepGrid
from training.steps.spans import RESTART, Span

PHASES = {
    "data": "ph-data",
    "forward": "ph-fwd",
    "backward": "ph-bwd",
    "optimizer": "ph-opt",
    "communication": "ph-comm",
}
REST = "rest of the step"
_OTHER_PHASES = ("s4", "load-4", "heat-4", "load-6", "heat-6")
_WAIT = 0.5  # of a median step: a pause longer than that is seen as a gap
_ROOM, _LINE = 32, 11  # pixels above the first chart, and of a line of words there
_MARGIN, _LEAST_SPREAD = 0.06, 0.12  # of an axis around its values, as static/js/figure.js has it
_LEAST_REST = 1e-4  # of a step: below that the phases tell all of it
_LETTER_SHARE = 0.0205  # of the window, as a letter has it on a phone: 5.7 of 280 pixels
_TRIED = 12  # spans of a kind at which a word is tried
_MARK_SHARE = 0.06  # of the window: from this width on a span has room for its word

Drawn = dict[str, Any]
_OPTIONS: Drawn = {"is_stacked": True, "painter": "uplot"}  # of each chart of the stack


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the stack: its key, label, base unit, line colour and the word of its legend."""

    key: str
    label: str
    unit: str
    color: str
    word: str

    @property
    def id(self) -> str:
        return f"fig-{self.key}"


STEP = Row("step", "Step time", "seconds", "s1", "mean")
SAMPLES = Row("throughput", "Throughput", "samples_per_second", "s1", "samples/s")
TOKENS = Row("throughput", "Throughput", "tokens_per_second", "s1", "tokens/s")
MFU = Row("mfu", "MFU", "ratio", "s6", "MFU")
ENERGY = Row("energy", "Energy per step", "joules_each", "s2", "energy per step")
TOKEN_ENERGY = Row("token-energy", "Energy per token", "joules_each", "s3", "joules per token")
LOSS = Row("loss", "Loss", "", "s4", "loss")


def phase_colors(names: Sequence[str]) -> dict[str, str]:
    """Return the colour token of each phase in the order of the stack: those with a fixed one first, REST last."""
    others = [name for name in names if name not in PHASES and name != REST]
    fixed = {name: color for name, color in PHASES.items() if name in names}
    free = {name: _OTHER_PHASES[i % len(_OTHER_PHASES)] for i, name in enumerate(others)}
    return fixed | free | ({REST: "s0"} if REST in names else {})


# Figures -------------------------------------------------------------------------------------------------------


def step_figure(phases: Sequence[str], **options: Any) -> Drawn:
    """Return step time: stacked by phase with the step above and the longest step of a column; else a mean in its band."""
    options = {**_OPTIONS, "shows_ticks": True, "from_zero": bool(phases), **options}
    if not phases:
        keys = [Key("mean", "s1", [1]), Key("longest", "s0", [2])]
        drawn = figure([area("s1"), line("s1"), line("s0", width=1, dash="dot")], unit="seconds", keys=keys, **options)
        return _with_room(drawn)
    colors = phase_colors(phases)
    stack = [trace for color in colors.values() for trace in (area(color, opacity=0.85), line(color, width=0))]
    keys = [Key(name, color, [2 * i + 1], "box") for i, (name, color) in enumerate(colors.items())]
    keys = [*keys, Key("step", "text-2", [len(stack)])]
    lines = [line("text-3", width=1), line("s0", width=1, dash="dot")]
    return _with_room(figure([*stack, *lines], unit="seconds", keys=keys, **options))


def _with_room(drawn: go.Figure) -> Drawn:
    """Return the figure with room above the plot for the words of what is marked."""
    drawn.update_layout(margin_t=_ROOM)
    return as_json(drawn)


def line_figure(row: Row, **options: Any) -> Drawn:
    """Return one line over time; a share need not fill the axis, since its changes are what is looked for."""
    options = {**_OPTIONS, "shows_ticks": False, "from_zero": False, **options}
    drawn = figure([line(row.color)], unit=row.unit, keys=[Key(row.word, row.color, [0])], **options)
    drawn.layout.yaxis.range = None
    return as_json(drawn)


def devices_figure(unit: str, n: int, noun: str, chosen: str, *, from_zero: bool, shows_ticks: bool) -> Drawn:
    """Return the median of a run's devices within the band of all of them, and before it the chosen one, "" where none is."""
    color = "s0" if chosen else "s1"
    drawn: list[go.Scatter] = [area(color), line(color, dash="dash" if chosen else "solid")]
    keys = [Key(f"median of {n} {noun}" if n > 1 else noun, color, [1])]
    if chosen:
        drawn.append(line("s2"))
        keys.append(Key(chosen, "s2", [2]))
    return as_json(figure(drawn, unit=unit, keys=keys, from_zero=from_zero, shows_ticks=shows_ticks, **_OPTIONS))


# Arrays --------------------------------------------------------------------------------------------------------


class Columns:
    """Where the values of a grid stand in time.

    Steps one by one are the corners of their columns: each value twice, where a step began and where it ended, with gaps
    between. Means stand in the middle of their time.
    """

    def __init__(self, grid: StepGrid) -> None:
        n = len(grid)
        if not grid.is_each:
            self._places = np.arange(n)
            self.x: list[int] = ((grid.start_ms + grid.end_ms) / 2).astype(np.int64).tolist()
            return
        starts, ends = grid.start_ms.copy(), grid.end_ms
        starts[1:] = np.maximum(starts[1:], ends[:-1])  # ranks end unevenly: columns never overlap
        pause = starts[1:] - ends[:-1]
        typical = float(np.median(grid.end_ms - grid.start_ms)) if n else 0.0
        breaks = np.flatnonzero(pause > _WAIT * typical) + 1
        self._places = np.insert(np.repeat(np.arange(n), 2), 2 * breaks, -1)
        corners = np.stack([starts, ends], axis=1).ravel()
        self.x = np.insert(corners, 2 * breaks, corners[2 * breaks - 1]).astype(np.int64).tolist()

    def of(self, values: Floats) -> Column:
        return column(np.append(values, np.nan)[self._places])


def step_arrays(grid: StepGrid, phases: Sequence[str]) -> Drawn:
    """Return the values for `step_figure`."""
    corners = Columns(grid)
    longest = traces.line(corners.of(np.full(len(grid), np.nan) if grid.is_each else grid.high))
    longest["customdata"] = traces.line(corners.of(grid.high))["y"]
    if not phases:
        band = traces.band(corners.x, corners.of(grid.low), corners.of(grid.high))
        drawn = [band, traces.line(corners.of(grid.seconds)), longest]
        return {"x": corners.x, "traces": drawn, **scale(grid, grid.low, grid.high)}
    gap = np.full(len(grid), np.nan)
    values = {name: grid.phases.get(name, gap) for name in phase_colors(phases)}
    if REST in values:
        known = np.nansum([told for name, told in values.items() if name != REST] or [gap], axis=0)
        rest = grid.seconds - known
        values[REST] = np.where(rest <= _LEAST_REST * grid.seconds, 0.0, rest)  # NaN stays: no step, no rest
    stack = traces.stacked(corners.x, [corners.of(told) for told in values.values()])
    lines = [traces.line(corners.of(grid.seconds)), longest]
    return {"x": corners.x, "traces": [*stack, *lines], **scale(grid, np.zeros(len(grid)), grid.high)}


def line_arrays(grid: StepGrid, values: Floats) -> Drawn:
    """Return the values for `line_figure`, one of each column."""
    corners = Columns(grid)
    return {"x": corners.x, "traces": [traces.line(corners.of(values))], **scale(grid, values, values)}


def scale(grid: StepGrid, low: Floats, high: Floats) -> Drawn:
    """Return the axis that fits the measured steps, as warm-up can take a hundred times as long; {} where there is none."""
    measured = ~grid.is_warmup & np.isfinite(low) & np.isfinite(high)
    if not grid.is_warmup.any() or not measured.any():
        return {}
    bottom, top = float(low[measured].min()), float(high[measured].max())
    margin = _MARGIN * (top - bottom) + max(0.0, _LEAST_SPREAD * abs(top) - (top - bottom)) / 2
    return {"scale": [0.0 if bottom == 0 else bottom - margin, top + margin]}


def device_arrays(times_ms: list[int], values: Mapping[str, Floats], lows: Sequence[Floats], highs: Sequence[Floats],
                  chosen: str) -> Drawn:  # fmt: skip
    """Return the values for `devices_figure`; `values` by uuid, each `(n_buckets,)`. `chosen` is a uuid, or "" for none."""
    every = np.array(list(values.values()))
    is_known = ~np.isnan(every).all(axis=0)
    median, low, high = (np.full(len(times_ms), np.nan) for _ in range(3))
    if is_known.any():
        median[is_known] = np.nanmedian(every[:, is_known], axis=0)
        low[is_known] = np.nanmin(np.array(lows)[:, is_known], axis=0)
        high[is_known] = np.nanmax(np.array(highs)[:, is_known], axis=0)
    drawn = traces.mean_with_band(times_ms, column(median), column(low), column(high))
    if chosen:
        drawn.append(traces.line(column(values.get(chosen, np.full(len(times_ms), np.nan)))))
    return {"x": times_ms, "traces": drawn, **traces.gaps(times_ms, [column(median)])}


def marks(spans: Sequence[Span], window_ms: tuple[float, float], *, has_words: bool) -> Drawn:
    """Return the spans as shapes behind a chart; each kind has its word once, on its widest span that has room for it."""
    total = window_ms[1] - window_ms[0]
    shape = {"type": "rect", "layer": "below", "yref": "paper", "y0": 0, "y1": 1, "line": {"width": 0}}
    words = {"yref": "paper", "y": 1, "yanchor": "bottom", "showarrow": False}
    shown = [span for span in spans if span.end_ms > window_ms[0] and span.start_ms < window_ms[1]]
    return {
        "shapes": [shape | {"x0": s.start_ms, "x1": s.end_ms, "fillcolor": _fill(s.kind)} for s in shown],
        "annotations": [
            words | place | {"text": kind, "font": {"size": 10.5, "color": "token:text-3"}}
            for kind, place in _words(shown, window_ms) if has_words and total > 0
        ],
    }  # fmt: skip


def _words(spans: Sequence[Span], window_ms: tuple[float, float]) -> Iterator[tuple[str, Drawn]]:
    """Yield each kind once with the place of its word: at the widest of its spans where no other word stands."""
    taken: list[tuple[float, float]] = []
    kinds: dict[str, list[Span]] = {}
    for span in sorted(spans, key=lambda each: each.start_ms - each.end_ms):
        kinds.setdefault(span.kind, []).append(span)
    for kind, of_kind in kinds.items():
        length = (len(kind) * _LETTER_SHARE) * (window_ms[1] - window_ms[0])
        for span in of_kind[:_TRIED]:
            place = _place(span, window_ms)
            left = place["x"] - length * {"left": 0.0, "center": 0.5, "right": 1.0}[place["xanchor"]]
            if all(left > end or left + length < start for start, end in taken):
                taken.append((left, left + length))
                yield kind, place
                break


def _fill(kind: str) -> str:
    return "token:warn/0.18" if kind == RESTART else "token:surface-3"


def _place(span: Span, window_ms: tuple[float, float]) -> Drawn:
    """In a wide span its word stands in the middle, else before it; at the left edge of the axis after it."""
    start, end = window_ms
    if (span.end_ms - span.start_ms) / (end - start) > _MARK_SHARE * 1.5:
        return {"x": (span.start_ms + span.end_ms) / 2, "xanchor": "center"}
    if (span.start_ms - start) / (end - start) < _MARK_SHARE * 2:
        return {"x": span.end_ms, "xanchor": "left"}
    return {"x": span.start_ms, "xanchor": "right"}


def onset(at_ms: float, text: str) -> Drawn:
    """Return the dotted line at which something set in, with its word above the plot where there is one."""
    stroke = {"color": "token:warn", "width": 1, "dash": "dot"}
    line_ = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": at_ms, "x1": at_ms, "line": stroke}
    place = {"x": at_ms, "xanchor": "left", "yref": "paper", "y": 1, "yanchor": "bottom", "showarrow": False}
    words = place | {"text": text, "font": {"size": 10.5, "color": "token:warn"}, "yshift": _LINE}
    return {"shapes": [line_], "annotations": [words] if text else []}
