"""Earlier clean runs to compare with: the device's own, and those of the other devices of its model. Reads only."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from statistics import median

from django.db.models import F, Q, QuerySet, Window
from django.db.models.functions import RowNumber

from training.judging import acceptance, metrics
from training.models import ReferenceJob, Verdict
from training.verdicts.screening import FEWEST

OWN, POPULATION = "own", "population"
SIDE_WORDS = {OWN: "its own history", POPULATION: "the other devices of its model"}
_OWN_RUNS = 50
_RUNS_A_DEVICE = 3  # so that one device that runs daily does not stand for all
_POPULATION_RUNS = 200
FEWEST_DEVICES = 2  # other devices, below which nobody can say which of them is unusual


@dataclass(frozen=True, slots=True)
class Baseline:
    """Values of one metric, newest run first, of `n_devices` devices."""

    side: str
    values: tuple[float, ...]
    n_devices: int


def history(verdict: Verdict, *, without: Collection[int] = ()) -> QuerySet[Verdict]:
    """Return the clean runs that ended before the verdict's on devices like its own, newest first.

    One that is suspect or was found to be slow is no measure for others, and what it was confirmed by neither. Where a person
    accepted a new baseline of the verdict's device, only what came since is.
    """
    found = Verdict.objects.filter(key=verdict.key, is_clean=True, ended_at__lt=verdict.ended_at)
    accepted = acceptance.newest(verdict)
    if accepted is not None:
        found = found.filter(ended_at__gte=accepted.since)
    return acceptance.usable(found).exclude(job_id__in=without).order_by("-ended_at")


class Earlier:
    """What a verdict is compared with, asked once for all its metrics."""

    def __init__(self, verdict: Verdict, *, without: Collection[int] = ()) -> None:
        found = history(verdict, without=without)
        own = same_devices(verdict.job, verdict.device_key)
        self._own = [row for (row,) in found.filter(own).values_list("values")[:_OWN_RUNS]]
        # The newest runs of each other device.
        others = found.exclude(own).exclude(device_key=None)
        place = Window(RowNumber(), partition_by=F("device_key"), order_by=F("ended_at").desc())
        rows = others.annotate(place=place).filter(place__lte=_RUNS_A_DEVICE).values_list("device_key", "values")
        self._others = list(rows[:_POPULATION_RUNS])

    def both(self, metric: str) -> list[Baseline]:
        """Return the device's own history, and the population: none where too few devices tell which of them is unusual."""
        own = _values(self._own, metric)
        n_devices = len({device for device, row in self._others if metric in row})
        others = _values([row for _, row in self._others], metric) if n_devices >= FEWEST_DEVICES else ()
        return [Baseline(OWN, own, int(bool(own))), Baseline(POPULATION, others, n_devices)]


def expected(job: ReferenceJob) -> tuple[float, int] | None:
    """Return (median step of the device's earlier clean runs with these parameters, seconds; how many), to run against.

    Of a job that runs, the rest of its key is not known yet. None where there are too few.
    """
    alike = Verdict.objects.filter(
        same_devices(job, job.device_id), job__workload=job.workload, job__params=job.params, is_clean=True,
        job__team__isnull=job.team is None,
    )  # fmt: skip
    earlier = acceptance.usable(alike.filter(job__created_at__lt=job.created_at))
    newest = earlier.exclude(key="").order_by("-ended_at").first()
    if newest is None:
        return None
    rows = earlier.filter(key=newest.key).order_by("-ended_at").values_list("values", flat=True)[:_OWN_RUNS]
    values = _values(rows, metrics.STEP.name)
    return (median(values), len(values)) if len(values) >= FEWEST else None


def same_devices(job: ReferenceJob, device_key: int | None) -> Q:
    """Return what finds the device's verdicts among those of a key; of a distributed job all devices must be the same."""
    return Q(device_key=device_key) if job.team is None else Q(job__team__members=job.team.members)


def _values(rows: Iterable[Mapping[str, float]], metric: str) -> tuple[float, ...]:
    return tuple(float(row[metric]) for row in rows if metric in row)
