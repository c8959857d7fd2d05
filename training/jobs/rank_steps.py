"""The steps of a distributed job's ranks, as those of the whole and rank by rank. Arrays only, no Django."""

from dataclasses import dataclass, replace

import numpy as np

from training.steps.columns import Floats, StepColumns

_LATEST = 20  # measured steps that a rank's pace is told by


@dataclass(frozen=True, slots=True)
class Pace:
    """A rank's newest step, and medians over its latest measured ones, seconds; None where none has come or none was told."""

    step: int = 0
    step_seconds: float | None = None
    compute_seconds: float | None = None

    @property
    def waiting_share(self) -> float | None:
        """Return which part of a step the rank did not compute: it waited for the others, sent, or stepped its optimiser."""
        if self.step_seconds is None or self.compute_seconds is None:
            return None
        return max(0.0, 1 - self.compute_seconds / self.step_seconds)


def whole(steps: StepColumns, world_size: int) -> StepColumns:
    """Return rank 0's steps with what all ranks did: samples and tokens of all, the mean loss where all have told theirs."""
    own = steps.of_rank(0)
    own = own.select(np.argsort(own.number, kind="stable"))
    if not len(own):
        return own
    places = np.minimum(np.searchsorted(own.number, steps.number), len(own) - 1)
    is_known = own.number[places] == steps.number
    told = is_known & ~np.isnan(steps.loss)
    counts = np.bincount(places[told], minlength=len(own))
    sums = np.bincount(places[told], weights=steps.loss[told], minlength=len(own))
    loss: Floats = np.where(counts == world_size, sums / world_size, np.nan)
    # Where rank 0 alone tells of samples, all ranks do them together.
    shares = world_size if (~np.isnan(steps.samples[steps.rank > 0])).any() else 1
    return replace(own, loss=loss, samples=own.samples * shares, tokens=own.tokens * shares)


def paces(steps: StepColumns, world_size: int) -> list[Pace]:
    """Return how each rank steps, by rank."""
    return [_pace(steps.of_rank(rank)) for rank in range(world_size)]


def _pace(steps: StepColumns) -> Pace:
    if not len(steps):
        return Pace()
    measured = steps.select(~steps.is_warmup)
    latest = measured.select(np.argsort(measured.number, kind="stable")[-_LATEST:])
    return Pace(int(steps.number.max()), _median(latest.seconds), _median(latest.compute_seconds))


def _median(values: Floats) -> float | None:
    told = values[~np.isnan(values)]
    return float(np.median(told)) if told.size else None
