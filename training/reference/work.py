"""What the harness knows of a workload, whatever framework it is built on. No torch: workloads import this."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from training.reference.order import CannotRun
from training.utilisation.flops import Flops

BATCHES = 4  # of synthetic data: made once on the device and used in turn, so that making data is no part of a step


class Work(Protocol):
    """A workload built on its device. `parameters` are the model's, None without one.

    `tokens_per_sample` is None where samples are no token sequences. `flops` are a sample's. `batch_size` is one rank's.
    `compute_seconds` tells of the step that has ended how long this rank had to itself before it waited for others; None alone.
    Where `is_common`, all ranks do each sample together; else each does its own.
    """

    model: str
    parameters: int | None
    batch_size: int
    tokens_per_sample: int | None
    flops: Flops
    data: str
    is_common: bool

    @property
    def compute_seconds(self) -> float | None: ...

    def step(self) -> float | None:
        """Do one step and return its loss, None where it has none."""

    def begin_measuring(self) -> None:
        """Take notice that the warm-up is over: figures of the work's own begin here."""

    def verify(self, losses: Sequence[float]) -> dict[str, Any]:
        """Return what the result says of correctness. Raises CannotRun where the work was not done right."""

    def figures(self) -> dict[str, Any]:
        """Return the work's own figures over the measured steps, in base units."""


class Ranks(Protocol):
    """The ranks of a distributed job, of which this process is one; alone, rank 0 of 1."""

    rank: int
    world_size: int
    backend: str

    def means(self, values: Sequence[float]) -> list[float]:
        """Return the mean over the ranks of each value."""

    def together(self) -> AbstractContextManager[None]:
        """Part from the others at the end; raise CannotRun that begins with LEFT where they went away before."""


class Device(Protocol):
    """The device of a job, opened by its framework."""

    name: str
    precision: str
    threads: int

    @property
    def ranks(self) -> Ranks: ...

    def synchronise(self) -> None:
        """Wait for the device's queue, so that a clock read afterwards tells when the work ended."""

    def compilations(self) -> int:
        """Return how many programs the framework has compiled so far; 0 where it compiles none."""

    def peak_memory(self) -> tuple[int, str]:
        """Return (bytes, how they were measured)."""


def falling(values: Sequence[float]) -> dict[str, Any]:
    """Return the loss at start and end. Raises CannotRun where it did not fall: such a job trained nothing.

    Both are means over the same batches (the first and the last pass), so that their difference is what was learnt and no
    difference of the data. Warm-up counts, since learning begins with the first step.
    """
    start, end = _mean(values[:BATCHES]), _mean(values[-BATCHES:])
    if not end < start:
        raise CannotRun(
            f"the loss did not fall: {start:.4f} at start, {end:.4f} at end, so the result is not to be trusted"
        )
    return {
        "loss_start": start,
        "loss_end": end,
        "loss_method": f"means of the first {BATCHES} steps, warm-up included, and of the last {BATCHES}: the same batches",
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
