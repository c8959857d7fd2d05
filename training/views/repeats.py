"""The repeats of a job's block of measured steps: each one's rate and median step, how far they are apart. Called by its page.

Of a job that is done they are the harness's own (`job.result`); before, they come from the steps that have arrived.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

import numpy as np

from training.jobs.queries import JobSteps
from training.models import JobState, ReferenceJob


@dataclass(frozen=True, slots=True)
class Repeat:
    """`rate` in samples a second and `step_seconds`, None before a step of it is known; `deviation` is rate over median − 1."""

    number: int
    rate: float | None
    step_seconds: float | None
    deviation: float | None
    share: float | None
    is_over: bool

    @property
    def why(self) -> str:
        """Return why its figures are not known."""
        return "none of its steps is known" if self.is_over else "no step of it has arrived yet"

    @property
    def why_no_deviation(self) -> str:
        return self.why if self.rate is None else "no repeat is whole yet"


@dataclass(frozen=True, slots=True)
class Repeats:
    """All repeats that were asked for. `rate` is the median of those that are whole, `spread` their range over it."""

    rows: list[Repeat]
    n_whole: int
    rate: float | None
    spread: float | None


@dataclass(frozen=True, slots=True)
class _Found:
    rate: float | None = None
    step_seconds: float | None = None
    is_whole: bool = False


def repeats(job: ReferenceJob, steps: JobSteps) -> Repeats | None:
    """Return the repeats, None of a job that measures its steps once."""
    n_repeats = job.params.get("repeats", 1)
    if n_repeats == 1:
        return None
    found = _of_result(job, n_repeats) if job.state == JobState.DONE else _of_steps(job, steps, n_repeats)
    rates = [each.rate for each in found if each.rate is not None]
    whole = [each.rate for each in found if each.is_whole and each.rate is not None]
    middle = median(whole) if whole else None
    rows = [
        Repeat(
            number=number,
            rate=each.rate,
            step_seconds=each.step_seconds,
            deviation=each.rate / middle - 1 if each.rate is not None and middle else None,
            share=each.rate / max(rates) if each.rate is not None and max(rates) > 0 else None,
            is_over=job.is_final,
        )
        for number, each in enumerate(found, 1)
    ]
    spread = (max(whole) - min(whole)) / middle if middle and len(whole) > 1 else None
    return Repeats(rows, len(whole), middle, spread)


def _of_result(job: ReferenceJob, n_repeats: int) -> list[_Found]:
    rates, medians = (job.result.get(name) for name in ("repeat_samples_per_second", "repeat_step_seconds_median"))
    return [_Found(_of(rates, number), _of(medians, number), is_whole=True) for number in range(1, n_repeats + 1)]


def _of_steps(job: ReferenceJob, steps: JobSteps, n_repeats: int) -> list[_Found]:
    """Rates here are samples over the sum of the step times, as the window of each repeat is known at the end alone."""
    measured, n_steps = steps.measured, job.params["steps"]
    places = (measured.number - job.params["warmup_steps"] - 1) // n_steps
    found = []
    for place in range(n_repeats):
        own = measured.select(places == place)
        seconds = float(own.seconds.sum())
        if not seconds:
            found.append(_Found())
            continue
        samples = float(own.samples.sum())
        rate = None if np.isnan(samples) else samples / seconds
        found.append(_Found(rate, float(np.median(own.seconds)), is_whole=len(own) == n_steps))
    return found


def _of(figures: object, number: int) -> float | None:
    """Return a repeat's figure of a result, which is foreign data: None where it is no number."""
    value = figures.get(str(number)) if isinstance(figures, Mapping) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None
