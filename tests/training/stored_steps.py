"""Steps in the store, for tests of what reads them."""

from dataclasses import replace

from fleet.models import Host
from training.models import Run
from training.runs import book
from training.runs.book import Told
from training.steps import columns as step_columns
from training.steps.columns import StepColumns
from training.steps.store import write
from training.steps.teller import Teller

TELLER = Teller("llm", "l1", 0, user="ada", process="p0")


def columns(*seconds: float, first_ms: float = 1_700_000_000_000, phases=None, **told) -> StepColumns:
    """Return steps of these lengths, one after the other, numbered from 0; `told` are other columns."""
    ended, at = [], first_ms
    for each in seconds:
        at += each * 1000
        ended.append(at)
    base = {"ended_ms": ended, "seconds": list(seconds), "number": list(range(len(seconds)))}
    return step_columns.of_arrays(base | told, phases)


def enter(host: Host, steps: StepColumns, *, newest_sequence: int = -1, n_dropped: int = 0, **teller) -> Run:
    """Store the steps as the ingest does; returns their run."""
    told = Told(host, replace(TELLER, **teller), steps, newest_sequence, n_dropped)
    return book.enter([told])[told.teller.key]


def put(run: Run, steps: StepColumns) -> None:
    """Store the steps of a run that is there."""
    write.add(run, steps)
