"""A ladder's result as a table for the terminal. Called by `manage.py ladder`."""

from collections.abc import Sequence

from rich.table import Table

from training.ladder.climb import Climbed
from training.ladder.speedup import Speedup

_COLUMNS = ("rung", "k", "95 %", "verdict", "k with compilation", "step", "compiling", "pays after", "loss", "blocks")


def ladder_table(rungs: Sequence[Climbed]) -> Table:
    """Return one row a rung, bottom first; what is not known is "—", what was left out or is not offered stands below."""
    table = Table(*_COLUMNS, box=None, caption="\n".join(_notes(rungs)) or None, caption_justify="left")
    for rung in rungs:
        table.add_row(rung.name, *_figures(rung))
    return table


def _figures(rung: Climbed) -> list[str]:
    steady = rung.steady
    if steady is None:
        return ["—"] * (len(_COLUMNS) - 1)
    pays = "—" if rung.steps_to_pay is None else f"{rung.steps_to_pay:,} steps"
    mark = " changed" if rung.changes_loss else ""
    return [
        f"{steady.k:.2f}×",
        _interval(steady),
        steady.word,
        "—" if rung.with_compilation is None else f"{rung.with_compilation.k:.2f}× over {rung.over_steps} steps",
        _seconds(rung.step_seconds),
        _seconds(rung.compile_seconds),
        pays,
        "—" if rung.loss_change is None else f"{rung.loss_change:+.1%}{mark}",
        str(steady.n_blocks),
    ]


def _interval(found: Speedup) -> str:
    return "—" if found.low is None or found.high is None else f"{found.low:.2f} to {found.high:.2f}"


def _seconds(value: float | None) -> str:
    return "—" if value is None else f"{value * 1000:.4g} ms"


def _notes(rungs: Sequence[Climbed]) -> list[str]:
    not_offered = [f"{rung.name} is not offered: {rung.why_not}" for rung in rungs if rung.why_not]
    undecided = [
        f"{rung.name} would be decided by about {rung.steady.blocks_to_decide} blocks"
        for rung in rungs
        if rung.steady is not None and rung.steady.blocks_to_decide
    ]
    return [*not_offered, *undecided, *(f"{rung.name} left out {each}" for rung in rungs for each in rung.left_out)]
