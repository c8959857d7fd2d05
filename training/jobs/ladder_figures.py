"""The chart of a ladder: k of each rung over the first, on a log axis, with its interval. Called by the ladder's page."""

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from telemetry.figures import Key, as_json, figure, token
from training.ladder.climb import Climbed
from training.ladder.speedup import Speedup

_TICKS = (0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12, 16)


def chart(rungs: Sequence[Climbed]) -> dict[str, Any]:
    """Return steps over the rungs, steady and with compilation; a rung that is not offered or has no result is a gap."""
    steady, whole = [rung.steady for rung in rungs], [rung.with_compilation for rung in rungs]
    traces = [_steps(whole, "s0", "square"), _steps(steady, "s1", "circle")]
    keys = [Key("k, steady state", "s1", [1]), Key("k with compilation included", "s0", [0])]
    drawn = figure(traces, unit="", keys=keys, from_zero=False, is_time=False)
    drawn.update_xaxes(
        tickmode="array", tickvals=list(range(len(rungs))), ticktext=[_tick(rung, i) for i, rung in enumerate(rungs)],
        automargin=True,  # on a phone the names stand aslant
    )  # fmt: skip
    low, high = _range([*steady, *whole])
    ticks = [tick for tick in _TICKS if low <= tick <= high]
    drawn.update_yaxes(
        type="log",
        range=[math.log10(low), math.log10(high)],
        tickmode="array",
        tickvals=ticks,
        ticktext=[f"{tick:g}×" for tick in ticks],
    )
    for place, found in enumerate(steady):
        if found is not None:
            drawn.add_annotation(
                x=place,
                y=math.log10(found.k),
                text=f"{found.k:.2f}×",
                showarrow=False,
                yshift=12,
                font={"color": token("text")},
            )
    drawn.update_layout(margin_b=34)
    return as_json(drawn)


def _steps(found: Sequence[Speedup | None], color: str, symbol: str) -> go.Scatter:
    above = [each.high - each.k if each is not None and each.high is not None else None for each in found]
    below = [each.k - each.low if each is not None and each.low is not None else None for each in found]
    return go.Scatter(
        mode="lines+markers",
        x=list(range(len(found))),
        y=[None if each is None else each.k for each in found],
        line={"shape": "hvh", "color": token(color), "width": 1.75},
        marker={"symbol": symbol, "size": 7, "color": token(color)},
        error_y={
            "type": "data",
            "array": above,
            "arrayminus": below,
            "thickness": 1,
            "width": 4,
            "color": token(color),
        },
        connectgaps=False,
    )


def _tick(rung: Climbed, place: int) -> str:
    return f"{'+ ' if place else ''}{rung.name}{'<br>not offered' if rung.why_not else ''}"


def _range(found: Sequence[Speedup | None]) -> tuple[float, float]:
    ends = [end for each in found if each is not None for end in (each.low or each.k, each.high or each.k)]
    return min([0.8, *(0.85 * end for end in ends)]), max([1.3, *(1.25 * end for end in ends)])
