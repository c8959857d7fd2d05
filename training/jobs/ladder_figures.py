"""The chart of a ladder: k of each rung over the first, on a log axis, with its interval. Called by the ladder's page.

The page gets the figure once, with the rungs' names; the values, and what of the axes follows from them, come each time anew.
"""

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from telemetry.charts.figures import Key, as_json, figure, token
from training.ladder.climb import Climbed
from training.ladder.speedup import Speedup

_TICKS = (0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12, 16)


def chart() -> dict[str, Any]:
    """Return the figure: steps over the rungs, with compilation and steady, whose values `arrays` gives."""
    keys = [Key("k, steady state", "s1", [1]), Key("k with compilation included", "s0", [0])]
    traces = [_steps("s0", "square"), _steps("s1", "circle")]
    drawn = figure(traces, unit="", keys=keys, from_zero=False, is_time=False)
    # On a phone the names stand aslant, rising to their rung: those of the last one would fall beyond the edge.
    drawn.update_xaxes(tickmode="array", automargin=True, autotickangles=[0, -30])
    drawn.update_yaxes(type="log", tickmode="array")
    drawn.update_layout(margin_b=34)
    return as_json(drawn)


def arrays(rungs: Sequence[Climbed]) -> dict[str, Any]:
    """Return the values in the order of the figure's traces; a rung that is not offered or has no result is a gap.

    "scale" is the y axis in powers of ten, as plotly has a log axis.
    """
    steady, whole = [rung.steady for rung in rungs], [rung.with_compilation for rung in rungs]
    low, high = _range([*steady, *whole])
    ticks = [tick for tick in _TICKS if low <= tick <= high]
    return {
        "traces": [_values(whole), _values(steady)],
        "scale": [math.log10(low), math.log10(high)],
        "annotations": [_words(place, found) for place, found in enumerate(steady) if found is not None],
        "axes": {
            "xaxis": {
                "tickvals": list(range(len(rungs))),
                "ticktext": [_tick(rung, place) for place, rung in enumerate(rungs)],
            },
            "yaxis": {"tickvals": ticks, "ticktext": [f"{tick:g}×" for tick in ticks]},
        },
    }


def _steps(color: str, symbol: str) -> go.Scatter:
    return go.Scatter(
        mode="lines+markers",
        line={"shape": "hvh", "color": token(color), "width": 1.75},
        marker={"symbol": symbol, "size": 7, "color": token(color)},
        error_y={"type": "data", "thickness": 1, "width": 4, "color": token(color)},
        connectgaps=False,
    )


def _values(found: Sequence[Speedup | None]) -> dict[str, Any]:
    above = [each.high - each.k if each is not None and each.high is not None else None for each in found]
    below = [each.k - each.low if each is not None and each.low is not None else None for each in found]
    return {
        "x": list(range(len(found))),
        "y": [None if each is None else each.k for each in found],
        "error_y": {"array": above, "arrayminus": below},
    }


def _words(place: int, found: Speedup) -> dict[str, Any]:
    """Return k in words, above its interval."""
    return {
        "x": place, "y": math.log10(found.high or found.k), "text": f"{found.k:.2f}×", "showarrow": False, "yshift": 12,
        "font": {"color": "token:text"},
    }  # fmt: skip


def _tick(rung: Climbed, place: int) -> str:
    return f"{'+ ' if place else ''}{rung.name}{'<br>not offered' if rung.why_not else ''}"


def _range(found: Sequence[Speedup | None]) -> tuple[float, float]:
    ends = [end for each in found if each is not None for end in (each.low or each.k, each.high or each.k)]
    return min([0.8, *(0.85 * end for end in ends)]), max([1.3, *(1.3 * end for end in ends)])
