"""The two paths of a sparkline, line and area, in the coordinates of its SVG.

Pure. A gap (None) stays a gap.
"""

from collections.abc import Iterator, Sequence

WIDTH, HEIGHT = 200, 30
_MARGIN = 2.0


def paths(values: Sequence[float | None], low: float | None = None, high: float | None = None) -> tuple[str, str]:
    """Return (line, area) as SVG path data; ("", "") where no value is known. `low` and `high` fix the scale."""
    known = [value for value in values if value is not None]
    if not known:
        return "", ""
    bottom = min(known) if low is None else low
    top = max(known) if high is None else high
    span = top - bottom
    # A flat line without a scale of its own is drawn in the middle: it is neither high nor low.
    scaled = [None if v is None else 0.5 if span <= 0 else min(1.0, max(0.0, (v - bottom) / span)) for v in values]
    step = WIDTH / max(len(values) - 1, 1)
    line, area = [], []
    for run in _runs(scaled):
        points = [f"{i * step:.1f} {HEIGHT - _MARGIN - y * (HEIGHT - 2 * _MARGIN):.1f}" for i, y in run]
        first, last = run[0][0] * step, run[-1][0] * step
        line.append("M" + "L".join(points))
        area.append(f"M{first:.1f} {HEIGHT}L" + "L".join(points) + f"L{last:.1f} {HEIGHT}Z")
    return "".join(line), "".join(area)


def _runs(values: Sequence[float | None]) -> Iterator[list[tuple[int, float]]]:
    run: list[tuple[int, float]] = []
    for position, value in enumerate(values):
        if value is not None:
            run.append((position, value))
        elif run:
            yield run
            run = []
    if run:
        yield run
