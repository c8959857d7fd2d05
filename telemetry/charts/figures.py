"""Plotly figures of the pages: axes, traces without their values, colours as design tokens. Called by the views.

A figure is handed over once, as JSON (`as_json`); the values follow from telemetry/charts/traces.py, in the order of its traces.
static/js/chart.js resolves the tokens, picks the axis unit and draws.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import plotly.graph_objects as go

from fleet import units
from telemetry import catalog

DASHES = ("solid", "dash", "dot", "dashdot")  # in which lines of a chart that stand side by side are told apart
_SYMBOLS = {"circle": "circle", "triangle-up": "triangle", "x": "cross", "square": "square"}
_THIN = 1  # pixels, or less
GROUP_TOKENS = ("s1", "s3", "s2", "s4", "s5", "s6")
_TOKEN = re.compile(r"var\(--([a-z0-9-]+)(?:,([0-9.]+))?\)")
_FONT = "Inter, system-ui, sans-serif"


def token(name: str, opacity: float | None = None) -> str:
    """Return a colour token in the one form that plotly lets pass; `as_json` writes it as `token:s1/0.17`."""
    return f"var(--{name})" if opacity is None else f"var(--{name},{opacity:g})"


@dataclass(frozen=True, slots=True)
class Key:
    """An entry of the HTML legend; it shows the value of its trace, or the range over its traces.

    It is drawn as its first trace is, a "box" where that bounds an area: no two of a chart differ in their colour alone.
    """

    label: str
    color: str
    traces: Sequence[int]
    shape: Literal["line", "box"] = "line"


@dataclass(frozen=True, slots=True)
class Reference:
    """A dashed line at a limit, in base units, with its words."""

    value: float
    words: str


TEMPLATE = go.layout.Template(
    layout=go.Layout(
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": _FONT, "size": 11, "color": token("text-2")},
        showlegend=False,
        hovermode=False,
        dragmode="zoom",
        xaxis={
            "showgrid": False,
            "zeroline": False,
            "linecolor": token("chart-axis"),
            "ticks": "outside",
            "ticklen": 3,
            "tickcolor": token("chart-axis"),
        },
        yaxis={
            "gridcolor": token("chart-grid"),
            "zeroline": False,
            "nticks": 5,
            "fixedrange": True,
            "tickformat": ",~r",
            "separatethousands": True,
        },
    )
)


def line(color: str, *, width: float = 1.5, dash: str = "solid") -> go.Scatter:
    """A line whose gaps stay gaps."""
    return go.Scatter(mode="lines", connectgaps=False, line={"color": token(color), "width": width, "dash": dash})


def area(color: str, *, opacity: float = 0.17) -> go.Scatter:
    """A filled outline, such as a band from minimum to maximum; one outline for each run between gaps."""
    return go.Scatter(mode="lines", fill="toself", fillcolor=token(color, opacity), line={"width": 0}, hoverinfo="skip")


def figure(
    traces: Sequence[go.Scatter],
    *,
    unit: str,
    keys: Sequence[Key],
    from_zero: bool = True,
    is_time: bool = True,
    is_stacked: bool = False,
    shows_ticks: bool = True,
    references: Sequence[Reference] = (),
    painter: Literal["plotly", "uplot"] = "plotly",
) -> go.Figure:
    """Return a figure of a quantity in base unit `unit` over time (or, `is_time=False`, over a number).

    Charts stacked on one time axis (`is_stacked`) share their left edge; only the last of them shows its ticks.
    A ratio's axis is 0 to 100 %. `painter` "uplot" draws lines, outlines and triangles alone, in a quarter of plotly's time.
    """
    y_axis = {"range": [0, 1]} if unit == "ratio" else {"rangemode": "tozero"} if from_zero else {}
    layout = go.Layout(
        template=TEMPLATE,
        margin={"l": 70 if is_stacked else 58, "r": 14, "t": 8, "b": 22 if shows_ticks else 6},
        xaxis={"type": "date" if is_time else "linear", "showticklabels": shows_ticks},
        yaxis=y_axis,
        shapes=[_reference_line(reference) for reference in references],
        annotations=[_reference_words(reference) for reference in references],
        meta={
            "painter": painter,
            "units": units.chart_ladder(unit),
            "legend": [
                {
                    "label": key.label,
                    "color": f"token:{key.color}",
                    "shape": _look(key, traces),
                    "traces": list(key.traces),
                }
                for key in keys
            ],
        },
    )
    return go.Figure(data=list(traces), layout=layout)


def _look(key: Key, traces: Sequence[go.Scatter]) -> str:
    """Return how a key is drawn, a class of static/css/chart.css: "line", or what else its first trace is."""
    if key.shape == "box":
        return key.shape
    trace = traces[key.traces[0]]
    if "markers" in trace.mode:
        return _SYMBOLS[trace.marker.symbol]
    if trace.line.dash not in {None, "solid"}:
        return str(trace.line.dash)
    return "thin" if trace.line.width <= _THIN else "line"


def as_json(figure: go.Figure) -> dict[str, Any]:
    """Return the figure as plain data for Django's `json_script`, its colours as `token:…`."""
    text = _TOKEN.sub(lambda m: f"token:{m[1]}/{m[2]}" if m[2] else f"token:{m[1]}", figure.to_json())
    data: dict[str, Any] = json.loads(text)
    return data


def mean_with_band(unit: str, label: str, **options: Any) -> go.Figure:
    """Return a mean over its band, from minimum to maximum within a bucket."""
    return figure([area("s1"), line("s1")], unit=unit, keys=[Key(label, "s1", [1])], **options)


def across_devices(unit: str, *, are_several: bool, **options: Any) -> go.Figure:
    """Return mean and median across devices over the band from p10 to p90; of a single one all are the same, and have one key."""
    keys = [Key("mean", "s1", [1]), Key("median", "s1", [2])]
    lines = [area("s1"), line("s1"), line("s1", width=1.2, dash="dash")]
    return figure(lines, unit=unit, keys=keys if are_several else keys[:1], **options)


def stacked(unit: str, groups: Sequence[str], **options: Any) -> go.Figure:
    """Return sums stacked by group, an area and its upper edge each; the legend shows each group's own value."""
    colors = [GROUP_TOKENS[i % len(GROUP_TOKENS)] for i in range(len(groups))]
    traces = [trace for color in colors for trace in (area(color, opacity=0.5), line(color, width=0.8))]
    keys = [Key(group, colors[i], [2 * i + 1], "box") for i, group in enumerate(groups)]
    return figure(traces, unit=unit, keys=keys, **options)


def peers(unit: str, n_peers: int, noun: str, chosen: str, **options: Any) -> go.Figure:
    """Return one line a device: the peers in grey, and before them the chosen device or, "" chosen, the mean of all."""
    traces = [line("s0", width=1) for _ in range(n_peers)]
    color = "s2" if chosen else "s1"
    keys = [
        Key(f"{n_peers} {'peers' if chosen else noun}", "s0", range(n_peers)),
        Key(chosen or "mean", color, [n_peers]),
    ]
    return figure([*traces, line(color)], unit=unit, keys=keys, **options)


def starts_at_zero(metric: str) -> bool:
    """Tell whether the axis of a metric begins at 0: not for temperatures and clocks, whose zero says nothing."""
    return catalog.BY_NAME[metric].unit not in {"celsius", "hertz"}


def _reference_line(reference: Reference) -> dict[str, Any]:
    stroke = {"color": token("text-3"), "width": 1, "dash": "dash"}
    ends = {"xref": "paper", "x0": 0, "x1": 1, "y0": reference.value, "y1": reference.value}
    return {"type": "line", **ends, "line": stroke}


def _reference_words(reference: Reference) -> dict[str, Any]:
    font = {"size": 10.5, "color": token("text-3")}
    place = {"xref": "paper", "x": 1, "xanchor": "right", "y": reference.value, "yanchor": "bottom"}
    return {"text": reference.words, "showarrow": False, "font": font, **place}
