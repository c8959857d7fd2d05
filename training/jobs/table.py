"""The results of a launch as a table for the terminal. Called by `manage.py reference`."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from fleet.models import Origin
from training.models import JobState, ReferenceJob

_COLUMNS = ("host", "state", "samples/s", "median step", "TFLOP/s", "power", "loss")


def result_table(jobs: Sequence[ReferenceJob]) -> Table:
    """Return one row per job; a figure that is not known is "—", with its reason below."""
    table = Table(*_COLUMNS, box=None, caption="\n".join(_notes(jobs)) or None, caption_justify="left")
    for job in jobs:
        table.add_row(_host(job), job.state, *_figures(job))
    return table


def _host(job: ReferenceJob) -> str:
    """Return the host's name, and whether it does not exist."""
    origin = job.host.origin
    return job.host.name if origin == Origin.REAL else f"{job.host.name} ({origin})"


def _figures(job: ReferenceJob) -> list[str]:
    if job.state != JobState.DONE:
        return ["—"] * (len(_COLUMNS) - 2)
    result: dict[str, Any] = job.result
    watts = job.energy.get("mean_watts")
    estimated = " estimated" if job.energy.get("is_estimated") else ""
    return [
        _figure(result.get("samples_per_second")),
        _figure(result.get("step_seconds_median"), 1000, " ms"),
        _figure(result.get("achieved_flops_per_second"), 1e-12),
        _figure(watts, unit=f" W{estimated}"),
        f"{_figure(result.get('loss_start'))} → {_figure(result.get('loss_end'))}",
    ]


def _figure(value: float | None, factor: float = 1, unit: str = "") -> str:
    return "—" if value is None else f"{value * factor:.4g}{unit}"


def _repeats(result: Mapping[str, Any]) -> str:
    """Return the rates of a job's repeats, their median and their range over it, in words."""
    told = result.get("repeat_samples_per_second")
    rates = ", ".join(map(_figure, told.values())) if isinstance(told, Mapping) else "—"
    spread = _figure(result.get("repeat_spread_ratio"), 100, " %")
    return f"samples/s by repeat {rates}; median {_figure(result.get('repeat_samples_per_second_median'))}, spread {spread}"


def _notes(jobs: Sequence[ReferenceJob]) -> list[str]:
    """Say why a job did not finish, and why its power is not known."""
    notes = [f"{job.host.name}: {job.reason}" for job in jobs if job.reason]
    notes += [f"{job.host.name}: {_repeats(job.result)}" for job in jobs if job.result.get("repeats")]
    return notes + [
        f"{job.host.name}: no power: {job.energy.get('reason', 'its last samples have not arrived yet')}"
        for job in jobs
        if job.state == JobState.DONE and job.energy.get("mean_watts") is None
    ]
