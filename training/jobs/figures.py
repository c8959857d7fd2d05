"""The plotly figure of a job's step times, and the arrays that fill it. Called by the job page; draws nothing itself.

Traces in order: warm-up, measured, and a triangle for each warm-up step that lies above the scale. The scale fits the
measured steps, as the first steps (compiling, choosing kernels) can take a hundred times as long.
"""

from datetime import datetime
from typing import Any

import plotly.graph_objects as go

from telemetry.charts.figures import Key, Reference, as_json, figure, line, token
from training.jobs.queries import JobSteps
from training.models import ReferenceJob

_HEADROOM = 1.15  # a warm-up step up to so many times the slowest measured one is drawn in full
_EMPTY_MS = 60_000  # the axis of a job without a step yet

Column = list[float | None]


def step_times(baseline: Reference | None = None) -> dict[str, Any]:
    """Return the figure without its values, as JSON data; `baseline` is a step time to compare with, seconds."""
    above = go.Scatter(
        mode="markers", marker={"symbol": "triangle-up", "size": 8, "color": token("s0")}, cliponaxis=False
    )
    traces = [line("s0", dash="dot"), line("s1", width=1.75), above]
    keys = [Key("measured step", "s1", [1]), Key("warm-up step", "s0", [0])]
    references = [] if baseline is None else [baseline]
    drawn = figure(traces, unit="seconds", keys=keys, from_zero=False, references=references, painter="uplot")
    drawn.update_layout(margin_t=22)  # the span's name stands above the plot, clear of the triangles
    return as_json(drawn)


def step_arrays(job: ReferenceJob, steps: JobSteps, seconds_left: float | None) -> dict[str, Any]:
    """Return range (UTC milliseconds), traces (seconds) and the span of the warm-up.

    The traces share one x, so that each is absent, not repeated, where the other one is. A clipped step keeps its true
    value as customdata, which the legend shows.
    """
    measured = [seconds for seconds, warm in zip(steps.seconds, steps.is_warmup, strict=True) if not warm]
    ceiling = max(measured) * _HEADROOM if measured else float("inf")
    warm_up = _where(steps, is_warmup=True)
    above: Column = [ceiling if y is not None and y > ceiling else None for y in warm_up]
    x = steps.ended_ms
    return {
        "range": _range(job, steps, seconds_left),
        "traces": [
            {"x": x, "y": [None if y is None else min(y, ceiling) for y in warm_up], "customdata": warm_up},
            {"x": x, "y": _where(steps, is_warmup=False)},
            {"x": x, "y": above},
        ],
        **_warm_up_span(steps),
    }


def _where(steps: JobSteps, *, is_warmup: bool) -> Column:
    return [s if warm == is_warmup else None for s, warm in zip(steps.seconds, steps.is_warmup, strict=True)]


def _range(job: ReferenceJob, steps: JobSteps, seconds_left: float | None) -> list[int]:
    """From the first step's start to the last one's end, or to where the job is expected to end."""
    if not steps.ended_ms:
        start = _ms(job.started_at or job.created_at)
        return [start, start + _EMPTY_MS]
    return [_first_ms(steps), steps.ended_ms[-1] + round((seconds_left or 0) * 1000)]


def _warm_up_span(steps: JobSteps) -> dict[str, Any]:
    ends = [ended_ms for ended_ms, warm in zip(steps.ended_ms, steps.is_warmup, strict=True) if warm]
    if not ends:
        return {"shapes": [], "annotations": [] if steps.number else [_nothing_yet()]}
    span = {"type": "rect", "layer": "below", "xref": "x", "x0": _first_ms(steps), "x1": ends[-1]}
    fill = {"yref": "paper", "y0": 0, "y1": 1, "fillcolor": "token:text-3/0.13", "line": {"width": 0}}
    words = {"text": "warm-up", "showarrow": False, "font": {"size": 10.5, "color": "token:text-2"}}
    place = {"xref": "x", "x": _first_ms(steps), "xanchor": "left", "yref": "paper", "y": 1, "yanchor": "bottom"}
    return {"shapes": [span | fill], "annotations": [words | place]}


def _nothing_yet() -> dict[str, Any]:
    words = {"text": "no step has arrived", "showarrow": False, "font": {"size": 12, "color": "token:text-3"}}
    return words | {"xref": "paper", "x": 0.5, "yref": "paper", "y": 0.5}


def _first_ms(steps: JobSteps) -> int:
    return round(steps.ended_ms[0] - steps.seconds[0] * 1000)


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
