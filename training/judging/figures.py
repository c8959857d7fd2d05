"""The plotly figures of verdicts: a device's runs over time, and its losses beside its peers'. Called by pages; asks nothing."""

from collections.abc import Sequence
from datetime import datetime
from statistics import median
from typing import Any

import plotly.graph_objects as go

from telemetry.charts.figures import Key, Reference, as_json, figure, line, token
from training.judging.results import Trend
from training.models import Outcome, Verdict

_SETTLED = (Outcome.PASS, Outcome.NO_BASELINE)


def trend(found: Trend) -> dict[str, Any]:
    """Return the runs as points: sound, suspect or slow, contaminated; a lasting change as a dotted line with its size."""
    kinds = [_kind(verdict) for verdict in found.verdicts]
    x = [_ms(verdict.ended_at) for verdict in found.verdicts]
    traces = [
        _points(
            x,
            [value if kind == which else None for value, kind in zip(found.values, kinds, strict=True)],
            color,
            symbol,
        )
        for which, color, symbol in (
            ("sound", "s1", "circle"),
            ("slow", "warn", "triangle-up"),
            ("contaminated", "s0", "x"),
        )
    ]
    keys = [Key("sound", "s1", [0]), Key("suspect or slow", "warn", [1]), Key("contaminated, left out", "s0", [2])]
    references = [Reference(_median(found), "median of clean runs")] if found.verdicts else []
    drawn = figure(traces, unit=found.metric.unit, keys=keys, from_zero=False, references=references)
    for at, ratio in found.changes:
        _mark(drawn, at, f"{ratio - 1:+.1%}".replace("-", "−"))
    for at in found.accepted:
        _mark(drawn, at, "new baseline")
    return as_json(drawn)


def _mark(drawn: go.Figure, at: datetime, words: str) -> None:
    """Draw a dotted line at a moment, with words at its head."""
    x = _ms(at)
    _rule(drawn, x)
    drawn.add_annotation(xref="x", x=x, xanchor="left", yref="paper", y=1, yanchor="top", text=words, showarrow=False)


def _rule(drawn: go.Figure, x: int) -> None:
    stroke = {"width": 1, "dash": "dot", "color": token("text-2")}
    drawn.add_shape(type="line", xref="x", x0=x, x1=x, yref="paper", y0=0, y1=1, line=stroke)


def losses(verdict: Verdict) -> dict[str, Any]:
    """Return the device's losses by step over the median of its peers'."""
    reference: Sequence[float | None] = verdict.agreement_detail.get("reference", [])
    curves = [(list(reference), "s0", 2.5, "dash"), (list(verdict.losses), "s2", 1.5, "solid")]
    traces = []
    for values, color, width, dash in curves:
        drawn = line(color, width=width, dash=dash)
        drawn.update(x=list(range(1, len(values) + 1)), y=values)
        traces.append(drawn)
    n_peers = verdict.agreement_detail.get("n_peers", 0)
    keys = [Key(f"median of {n_peers} other devices", "s0", [0]), Key("this device", "s2", [1])]
    found = figure(traces, unit="", keys=keys, from_zero=False, is_time=False, painter="uplot")
    at_step = verdict.agreement_detail.get("at_step")
    if at_step is not None:
        _rule(found, at_step + 1)
    return as_json(found)


def _points(x: list[int], y: list[float | None], color: str, symbol: str) -> go.Scatter:
    return go.Scatter(mode="markers", x=x, y=y, marker={"color": token(color), "size": 7, "symbol": symbol})


def _kind(verdict: Verdict) -> str:
    if not verdict.is_clean:
        return "contaminated"
    return "sound" if verdict.outcome in _SETTLED else "slow"


def _median(found: Trend) -> float:
    clean = [value for value, verdict in zip(found.values, found.verdicts, strict=True) if verdict.is_clean]
    return median(clean or found.values)


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
