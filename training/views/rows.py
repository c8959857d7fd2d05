"""A reference job as a row of a table. Called by the reference page and the panel of recent jobs."""

from collections.abc import Iterable
from dataclasses import dataclass

from training.models import ReferenceJob
from training.views.measured import sample_unit, why_no_energy
from training.views.progress import mark, percent


@dataclass(frozen=True, slots=True)
class Row:
    """`percent` is None where the job has ended or its first step is still to come; units as `quantity` takes them."""

    job: ReferenceJob
    mark: str
    percent: int | None
    samples_rate: str
    samples_per_joule_unit: str
    why_no_energy: str

    @property
    def percent_words(self) -> str:
        return f"{self.percent} %"


def rows(jobs: Iterable[ReferenceJob]) -> list[Row]:
    return [
        Row(
            job=job,
            mark=mark(job),
            percent=None if job.is_final else percent(job.step, job.total_steps),
            samples_rate=f"{sample_unit(job)}/s",
            samples_per_joule_unit=f"{sample_unit(job)}/J",
            why_no_energy=why_no_energy(job),
        )
        for job in jobs
    ]
